"""Arrays through the Python face: storing, deriving, stacking."""

import numpy as np
import pytest
import xarray as xr

from larvik import ROI, Channel, Experiment, Representation, Sample, Table, Transformation
from larvik.connection import Connection
from larvik.errors import CallCancelledError, InvalidArgumentError, LarvikError

pytestmark = pytest.mark.usefixtures("connection")


def image(channels: tuple[str, ...] = ("DAPI", "GFP"), *, step: float = 0.5, size: int = 16) -> xr.DataArray:
    shape = (2, len(channels), 3, size, 24)
    array = xr.DataArray(
        np.arange(np.prod(shape), dtype="uint16").reshape(shape),
        dims=("t", "c", "z", "y", "x"),
        coords={
            "t": np.array([0.0, 2.5]),
            "c": list(channels),
            "z": np.arange(3) * 2.0,
            "y": np.arange(size) * step,
            "x": np.arange(24) * step,
        },
    )
    for dim in "zyx":
        array[dim].attrs["units"] = "micrometer"
    array["t"].attrs["units"] = "second"
    return array


@pytest.fixture
def sample() -> Sample:
    return Experiment.objects.create(name="e").samples.create(name="s")


def with_metadata(row: Representation) -> Representation:
    for channel, wavelength in zip(
        row.related("biometa__channels").order_by("index"), (461.0, 509.0), strict=True
    ):
        channel.emission_wavelength = wavelength
        channel.save()
    return row


def test_an_array_comes_back_with_dims_coordinates_and_channels(sample: Sample) -> None:
    made = Representation.objects.from_xarray(image(), name="cells", sample=sample)
    stored = Representation.objects.get(id=made.id)
    assert (stored.dims, stored.shape, stored.dtype) == (
        ("t", "c", "z", "y", "x"),
        (2, 2, 3, 16, 24),
        "uint16",
    )
    assert (stored.type, stored.kind, stored.sample) == ("initial", "intensity", sample)
    xr.testing.assert_equal(stored.array.drop_vars("channel_id").compute(), image())
    assert stored.biometa.channels["Name"].tolist() == ["DAPI", "GFP"]


def test_plain_arrays_take_the_last_dims_or_those_that_are_named() -> None:
    plain = Representation.objects.from_xarray(np.ones((4, 5), "float32"))
    assert (plain.dims, plain.name, plain.dtype) == (("y", "x"), "array", "float32")
    named = Transformation.objects.from_xarray(np.ones((4, 5)), dims=("angle", "x"), name="n")
    assert named.dims == ("angle", "x")
    mask = Representation.objects.from_xarray(np.ones((4, 5), bool), name="m")
    assert mask.kind == "mask"


def test_a_derived_array_keeps_the_metadata_of_what_went_in(sample: Sample) -> None:
    source = with_metadata(Representation.objects.from_xarray(image(), name="cells", sample=sample))
    lazy = source.array.sel(c=["GFP"]).isel(x=slice(4, 12)).max(dim="z")
    made = Representation.objects.from_xarray(lazy, name="projection", sample=sample, parent=None)
    assert (made.type, made.dims) == ("derived", ("t", "c", "y", "x"))
    channels = made.biometa.channels
    assert channels[["Index", "Name", "EmissionWavelength"]].to_numpy().tolist() == [[0, "GFP", 509.0]]
    scan = made.biometa.scan
    assert scan[["SizeX", "SizeZ", "SizeC", "PhysicalSizeX"]].to_numpy().tolist() == [[8, 1, 1, 0.5]]
    np.testing.assert_array_equal(made.array.to_numpy(), image().to_numpy()[:, 1:, :, :, 4:12].max(axis=2))
    assert made.array.x.to_numpy().tolist() == (np.arange(4, 12) * 0.5).tolist()


def test_planes_are_numbered_as_in_the_new_array(sample: Sample) -> None:
    source = Representation.objects.from_xarray(image(), name="cells", sample=sample)
    rows = [(t, c, z) for t in range(2) for c in range(2) for z in range(3)]
    planes = source.related("biometa__planes")
    planes.bulk_create(
        [
            planes.model(object_id=source.id, the_t=t, the_c=c, the_z=z, delta_t=100.0 * t + 10 * c + z)
            for t, c, z in rows
        ]
    )
    made = Representation.objects.from_xarray(source.array.isel(t=[1], c=[1], z=[1, 2]), name="part")
    found = made.biometa.planes[["TheT", "TheC", "TheZ", "DeltaT"]].to_numpy().tolist()
    assert found == [[0, 0, 0, 111.0], [0, 0, 1, 112.0]]


def test_combining_arrays_keeps_the_channels_that_fit(sample: Sample) -> None:
    one = with_metadata(Representation.objects.from_xarray(image(), name="one", sample=sample))
    other = Representation.objects.from_xarray(image(("Cy3",)), name="other", sample=sample)
    both = xr.concat([one.array, other.array], dim="c", join="override", coords="minimal", compat="override")
    made = Representation.objects.from_xarray(both, name="both")
    assert made.shape[1] == 3
    assert len(made.biometa.channels) == 3


def test_pixels_that_lost_their_ids_are_stored_with_their_channel_names() -> None:
    source = Representation.objects.from_xarray(image(), name="cells")
    plain = source.array.drop_vars("channel_id") + 1
    plain.attrs = {}
    made = Representation.objects.from_xarray(plain, name="plain")
    assert made.biometa.channels["Name"].tolist() == ["DAPI", "GFP"]


def test_progress_rises_to_the_end_and_cancelling_leaves_nothing() -> None:
    told: list[tuple[int, int]] = []
    Representation.objects.from_xarray(
        image(), name="n", progress=lambda done, total: told.append((done, total))
    )
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1] == image().nbytes
    with pytest.raises(CallCancelledError):
        Representation.objects.from_xarray(image(), name="cancelled", cancelled=lambda: True)
    assert Representation.objects.with_trash().count() == 1


@pytest.mark.parametrize(
    ("array", "values", "reason"),
    [
        (np.zeros((4, 4), "complex64"), {}, "DTYPE_UNSUPPORTED"),
        (np.zeros((1,) * 7), {}, "AXES_MISMATCH"),
        (np.zeros((4, 4)), {"dims": ("y", "y")}, "AXES_MISMATCH"),
        (np.zeros((4, 4)), {"smaple": "x"}, "FIELD_UNKNOWN"),
        (np.zeros((4, 4)), {"name": "a\0"}, "FIELD_INVALID"),
        (np.zeros((4, 4)), {"kind": "colour"}, "FIELD_INVALID"),
        (object(), {}, None),
        (np.array(["text"]), {}, None),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_nothing(
    array: object, values: dict[str, object], reason: str | None
) -> None:
    with pytest.raises(LarvikError) as caught:
        Representation.objects.from_xarray(array, **values)
    assert reason is None or caught.value.reason == reason
    assert Representation.objects.with_trash().count() == 0


@pytest.fixture
def images(sample: Sample) -> list[Representation]:
    experiment = sample.experiment
    assert experiment is not None
    return [
        Representation.objects.from_xarray(
            image() + number, name=f"n{number}", sample=experiment.samples.create(name=f"s{number}")
        )
        for number in range(3)
    ]


def test_a_stack_has_a_new_dim_with_names_and_ids(images: list[Representation]) -> None:
    stacked = Representation.objects.order_by("name").stack("sample")
    assert stacked.dims == ("sample", "t", "c", "z", "y", "x")
    assert stacked.sample.to_numpy().tolist() == ["s0", "s1", "s2"]
    assert stacked.array_id.to_numpy().tolist() == [row.id for row in images]
    assert stacked.sample_id.to_numpy().tolist() == [row.sample.id for row in images]  # type: ignore[union-attr]
    assert stacked.dtype == "uint16"
    expected = np.stack([image().to_numpy() + number for number in range(3)])
    np.testing.assert_array_equal(stacked.sel(sample="s1", c="GFP").to_numpy(), expected[1][:, 1])
    np.testing.assert_array_equal(stacked.mean(("t", "c", "z", "y", "x")), expected.mean((1, 2, 3, 4, 5)))


def test_a_stack_can_be_labelled_by_fields_and_ids(images: list[Representation]) -> None:
    found = Representation.objects.order_by("name")
    assert found.stack("name")["name"].values.tolist() == ["n0", "n1", "n2"]
    assert found.stack("image")["image"].values.tolist() == [row.id for row in images]
    assert found.stack("created_at")["created_at"].dtype.kind == "M"
    assert np.isnat(found.stack("acquired_at")["acquired_at"].values).all()


@pytest.mark.parametrize(
    ("other", "field", "words"),
    [
        (image().isel(t=0), "dims", "select or coarsen"),
        (image().astype("uint8"), "dtype", "uint8"),
        (image(size=8), "shape", "join='inner'"),
        (image(step=0.25), "spacing", "join='override'"),
        (image(("DAPI", "RFP")), "channel names", "RFP"),
    ],
)
def test_arrays_that_differ_are_not_stacked_and_the_difference_is_named(
    images: list[Representation], other: xr.DataArray, field: str, words: str
) -> None:
    made = Representation.objects.from_xarray(other, name="other")
    with pytest.raises(InvalidArgumentError, match=words) as caught:
        Representation.objects.stack("sample")
    assert (caught.value.reason, caught.value.metadata["field"]) == ("AXES_MISMATCH", field)
    assert made.id in caught.value.message


def test_a_join_says_how_unequal_arrays_are_aligned(images: list[Representation]) -> None:
    Representation.objects.from_xarray(image(size=8), name="small")
    assert Representation.objects.stack("image", join="inner").sizes["y"] == 8
    outer = Representation.objects.stack("image", join="outer")
    assert outer.sizes["y"] == 16
    assert np.isnan(outer.isel(image=3, y=12).to_numpy()).all()


def test_stacks_that_make_no_sense_are_refused(images: list[Representation]) -> None:
    with pytest.raises(InvalidArgumentError, match="no rows"):
        Representation.objects.none().stack("sample")
    with pytest.raises(InvalidArgumentError, match="already"):
        Representation.objects.stack("z")
    with pytest.raises(InvalidArgumentError, match="inner, outer"):
        Representation.objects.stack("sample", join="inne")
    with pytest.raises(InvalidArgumentError, match="cannot label"):
        Representation.objects.stack("attributes")


def test_metadata_of_a_query_is_one_table(images: list[Representation]) -> None:
    table = Representation.objects.filter(name__in=["n0", "n2"]).biometa.channels
    assert table["array_id"].tolist() == [images[0].id] * 2 + [images[2].id] * 2
    assert table["name"].tolist() == ["DAPI", "GFP"] * 2
    assert Representation.objects.none().biometa.channels.empty
    assert Channel.objects.filter(object_id__in=Representation.objects.filter(name="n1")).count() == 2


def test_regions_give_their_points_back(images: list[Representation]) -> None:
    made = images[0].rois.create(kind="polygon", vertices=[[0, 0], [4, 0], [4, 4.5]])
    assert ROI.objects.get(id=made.id).points.tolist() == [[0, 0], [4, 0], [4, 4.5]]
    volume = images[0].rois.create(kind="point", vertices=[1, 2, 3], vertex_dims=("z", "y", "x"))
    assert volume.points.shape == (1, 3)


def test_measurements_come_back_as_they_were(connection: Connection, sample: Sample) -> None:
    import pandas as pd

    frame = pd.DataFrame({"area": [1.5, 2.5], "label": ["a", None]}, index=pd.Index([7, 8], name="cell"))
    made = Table.objects.from_frame(frame, name="areas", sample=sample)
    stored = sample.related("tables").get()
    assert (stored, stored.num_rows, set(stored.columns)) == (made, 2, {"cell", "area", "label"})
    pd.testing.assert_frame_equal(stored.frame().set_index("cell"), frame, check_index_type=False)
    with pytest.raises(InvalidArgumentError, match="not list"):
        Table.objects.from_frame([1, 2], name="x")
