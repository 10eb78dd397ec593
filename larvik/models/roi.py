"""Regions of interest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from larvik.models.base import Owned, Related, field, relation
from larvik.schema import OnDelete

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from larvik.models.array import Representation, Transformation
    from larvik.models.experiment import ExperimentalGroup

KINDS = ("point", "line", "polyline", "polygon", "rectangle", "ellipse", "path")


class ROI(Owned, indexes=(("representation_id", "id"),)):
    """A region of interest on a representation."""

    representation: Representation = relation(
        "Representation", reverse="rois", on_delete=OnDelete.CASCADE, doc="Image that it lies on."
    )
    kind: str = field(choices=KINDS, doc="Shape of the region.")
    label: str | None = field(default=None, max_length=400, doc="What the region is.")
    color: str | None = field(default=None, max_length=9, doc="``#rrggbb`` or ``#rrggbbaa``.")
    vertex_dims: tuple[str, ...] = field(default=("y", "x"), doc="Dims of each vertex, in order.")
    vertices: bytes = field(
        doc="Vertices as little-endian float64, shape (n, len(vertex_dims)), C order, in pixels of level 0."
    )
    group: ExperimentalGroup | None = relation(
        "ExperimentalGroup", reverse="rois", default=None, doc="Group that the region counts for."
    )

    transformations: ClassVar[Related[Transformation]] = Related("transformations")

    @property
    def points(self) -> NDArray[np.float64]:
        """The vertices, shape (n, len(vertex_dims)), float64, in pixels of level 0; a copy."""
        from larvik.array.vertices import decode

        return decode(self.vertices, len(self.vertex_dims))
