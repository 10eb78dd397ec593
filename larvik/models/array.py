"""Models that own an array: the LarvikArray base, Representation and Transformation."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar

from larvik.models.base import Owned, Related, field, relation
from larvik.schema import FieldType

if TYPE_CHECKING:
    import xarray

    from larvik.biometa.rows import RowBiometa
    from larvik.models.experiment import Sample
    from larvik.models.roi import ROI
    from larvik.models.series import Series
    from larvik.viewer.accessor import Viewer


class LarvikArray(Owned, abstract=True):
    """Base of every model whose rows own a multidimensional array.

    Subclass it in a package of your own, name the package in the ``models`` setting and run
    ``larvik migrate``: queries, Flight listings and descriptors then know the new model.
    """

    name: str = field(max_length=400, doc="Name of the array.")
    dims: tuple[str, ...] = field(read_only=True, default=(), doc="Names of the dimensions, in order.")
    shape: tuple[int, ...] = field(read_only=True, default=(), doc="Elements per dim, finest level.")
    dtype: str = field(read_only=True, default="", max_length=20, doc="NumPy name of the stored dtype.")
    spec: dict[str, Any] = field(
        read_only=True, default=None, doc="ArraySpec: axes, levels, grid, coordinates."
    )
    version: int = field(read_only=True, default=1, doc="Version of the pixels.")
    location: str = field(read_only=True, default="", max_length=2000, doc="Group below the store's root.")
    is_registered: bool = field(read_only=True, default=False, doc="Whether the array is read in place.")
    fingerprint: str | None = field(
        read_only=True, default=None, max_length=200, doc="Of a registered source."
    )
    stored_bytes: int = field(read_only=True, default=0, unit="byte", doc="Bytes in the store.")
    scope_id: str | None = field(
        type=FieldType.UUID, read_only=True, default=None, doc="Experiment whose rights apply."
    )
    attributes: dict[str, Any] | None = field(default=None, doc="Free attributes, kept in the group too.")

    @property
    def array(self) -> xarray.DataArray:
        """The pixels of the finest level, lazy: shape and dims of the row, native dtype."""
        from larvik.array.rows import open_array

        return open_array(self)

    @property
    def levels(self) -> list[xarray.DataArray]:
        """Every resolution level, finest first, lazy, with physical coordinates."""
        from larvik.array.rows import open_levels

        return open_levels(self)

    @property
    def tree(self) -> xarray.DataTree:
        """The levels as a DataTree: nodes ``"0"``, ``"1"``, ... with a variable ``image``."""
        from larvik.array.rows import open_tree

        return open_tree(self)

    @property
    def biometa(self) -> RowBiometa:
        """OME metadata as tables: ``scan``, ``channels``, ``planes``, ``objective``, ``detector``."""
        from larvik.biometa.rows import RowBiometa

        return RowBiometa(self)

    @property
    def viewer(self) -> Viewer:
        """Pictures of the array: ``row.viewer.show()``."""
        from larvik.viewer.accessor import Viewer

        return Viewer(self.array)

    def export(self, path: str, **options: Any) -> str:
        """Write the array to `path`, an ``.ome.tiff`` file or an ``.ome.zarr`` folder; return the path."""
        from larvik.formats.export import export_row

        return export_row(self, path, **options)


class Representation(
    LarvikArray,
    indexes=(
        ("sample_id", "type", "scope_id", "id"),
        ("scope_id", "type", "id"),
        ("type", "id"),
        ("name", "id"),
        ("parent_id",),
    ),
):
    """An image of a sample that shares x and y with the original."""

    type: str = field(
        default="initial", max_length=200, doc="``initial`` from the microscope, else how derived."
    )
    kind: str = field(
        default="intensity", choices=("intensity", "label", "mask"), doc="What the pixels mean."
    )
    sample: Sample | None = relation("Sample", reverse="representations", default=None, doc="What it shows.")
    parent: Representation | None = relation(
        "Representation", reverse="derived", default=None, doc="Image it was derived from; same x and y."
    )
    series: Series | None = relation(
        "Series", reverse="representations", default=None, doc="Original it came from."
    )
    acquired_at: datetime | None = field(
        default=None, doc="Start of the acquisition, when its zone is known."
    )
    acquired_local: str | None = field(
        default=None, max_length=40, doc="ISO 8601 local time of the start, when its zone is unknown."
    )

    derived: ClassVar[Related[Representation]] = Related("derived")
    rois: ClassVar[Related[ROI]] = Related("rois")
    transformations: ClassVar[Related[Transformation]] = Related("transformations")


class Transformation(LarvikArray, indexes=(("representation_id",), ("roi_id",), ("name", "id"))):
    """An isolated or transformed region; its dims are its own."""

    type: str = field(default="transformed", max_length=200, doc="How it was made.")
    representation: Representation | None = relation(
        "Representation", reverse="transformations", default=None, doc="Image it was taken from."
    )
    roi: ROI | None = relation(
        "ROI", reverse="transformations", default=None, doc="Region it was taken from."
    )
    parent: Transformation | None = relation(
        "Transformation", reverse="derived", default=None, doc="Transformation it was derived from."
    )

    derived: ClassVar[Related[Transformation]] = Related("derived")
