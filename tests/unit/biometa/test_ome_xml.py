from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree

import ome_types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ome_types import from_xml, validate_xml

from larvik.array.spec import ArraySpec, Axis, Level, default_axis
from larvik.biometa.document import OmeDocument
from larvik.biometa.ome_read import biometa_of, channel_names, from_ome_xml
from larvik.biometa.ome_write import ENUMS, PIXEL_TYPES, to_ome_xml
from larvik.biometa.tables import Biometa, acquisition_time, columns, make_row
from larvik.errors import InvalidArgumentError, LarvikError, SelectionError, UnsupportedError

HEAD = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
PIXELS = (
    '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="4" SizeY="3" SizeZ="2"'
    ' SizeC="2" SizeT="1"'
    " {attributes}>{content}</Pixels>"
)


def document(pixels: str = "", image: str = "", attributes: str = "", before: str = "") -> str:
    found = PIXELS.format(attributes=attributes, content=pixels)
    return f'{HEAD}{before}<Image ID="Image:0" Name="cells">{image}{found}</Image></OME>'


def make_spec(
    sizes: dict[str, int], spacing: dict[str, float] | None = None, dtype: str = "uint16"
) -> ArraySpec:
    dims, shape = tuple(sizes), tuple(sizes.values())
    known = spacing or {}
    axes = tuple(
        default_axis(dim, calibrated=dim in known) if dim != "t" or "t" in known else Axis("t", "time")
        for dim in dims
    )
    steps = tuple(known.get(dim, 1.0) for dim in dims)
    level = Level("0", shape, shape, shape, steps, (0.0,) * len(dims))
    names = tuple(f"Channel {index}" for index in range(sizes.get("c", 0)))
    return ArraySpec(axes, dtype, (level,), channel_names=names)


texts = st.text(
    st.characters(blacklist_categories=("Cs", "Cc"), blacklist_characters="\ufffe\uffff"),
    min_size=1,
    max_size=20,
)
numbers = st.floats(allow_nan=False, allow_infinity=False, width=64)
above_zero = st.floats(min_value=1e-6, max_value=1e9)


def optional(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


@st.composite
def biometas(draw: st.DrawFn) -> tuple[ArraySpec, Biometa, str]:
    sizes = {dim: draw(st.integers(1, 3)) for dim in "tczyx"}
    spacing = {dim: draw(above_zero) for dim in "tzyx"}
    dtype = draw(st.sampled_from(sorted(PIXEL_TYPES)))
    name = draw(texts)
    detectors = tuple(
        make_row(
            "detector", index=index, model=draw(optional(texts)), manufacturer=draw(optional(texts)),
            type=draw(optional(st.sampled_from(ENUMS["Type"]))), gain=draw(optional(numbers)),
            offset=draw(optional(numbers)), voltage=draw(optional(numbers)),
        )
        for index in range(draw(st.integers(0, 2)))
    )  # fmt: skip
    channels = tuple(draw(channel(index, len(detectors))) for index in range(sizes["c"]))
    places = [(t, c, z) for t in range(sizes["t"]) for c in range(sizes["c"]) for z in range(sizes["z"])]
    planes = tuple(
        make_row(
            "planes", the_t=t, the_c=c, the_z=z,
            **{field: draw(optional(numbers)) for field in columns("planes") if not field.startswith("the_")},
        )
        for t, c, z in places[: draw(st.integers(0, 4))]
    )  # fmt: skip
    objective = (
        make_row(
            "objective", model=draw(optional(texts)), lens_na=draw(optional(numbers)),
            nominal_magnification=draw(optional(numbers)), calibrated_magnification=draw(optional(numbers)),
            immersion=draw(optional(st.sampled_from(ENUMS["Immersion"]))), manufacturer=draw(optional(texts)),
            correction=draw(optional(st.sampled_from(ENUMS["Correction"]))),
            working_distance=draw(optional(numbers)),
            medium=draw(optional(st.sampled_from(ENUMS["Medium"]))), refractive_index=draw(optional(numbers)),
        ),
    ) if draw(st.booleans()) else ()  # fmt: skip
    scan = make_row(
        "scan", name=name, dimension_order="XYZCT", pixel_type=PIXEL_TYPES[dtype],
        significant_bits=draw(optional(st.integers(1, 64))), time_increment=spacing["t"],
        acquisition_date=draw(optional(st.sampled_from(["2024-02-29T23:59:59", "2024-02-29T23:59:59.5Z"]))),
        **{f"size_{dim}": size for dim, size in sizes.items()},
        **{f"physical_size_{dim}": spacing[dim] for dim in "xyz"},
    )  # fmt: skip
    return make_spec(sizes, spacing, dtype), Biometa((scan,), channels, planes, objective, detectors), name


def channel(index: int, detectors: int) -> st.SearchStrategy:
    detector = st.integers(0, detectors - 1) if detectors else st.none()
    return st.builds(
        lambda detector_index, gain, binning, **values: make_row(
            "channels", index=index, samples_per_pixel=1, detector_index=detector_index,
            gain=gain if detector_index is not None else None,
            binning=binning if detector_index is not None else None, **values,
        ),
        detector_index=detector,
        gain=optional(numbers),
        binning=optional(st.sampled_from(ENUMS["Binning"])),
        name=texts,
        fluor=optional(texts),
        emission_wavelength=optional(above_zero),
        excitation_wavelength=optional(above_zero),
        color=optional(st.from_regex(r"#[0-9a-f]{6}", fullmatch=True)),
        illumination_type=optional(st.sampled_from(ENUMS["IlluminationType"])),
        acquisition_mode=optional(st.sampled_from(ENUMS["AcquisitionMode"])),
        contrast_method=optional(st.sampled_from(ENUMS["ContrastMethod"])),
        pinhole_size=optional(numbers),
        nd_filter=optional(st.floats(0, 1)),
    )  # fmt: skip


@settings(max_examples=50, deadline=None)
@given(biometas())
def test_what_is_written_reads_back_equal(made: tuple[ArraySpec, Biometa, str]) -> None:
    spec, biometa, name = made
    back = from_ome_xml(to_ome_xml(spec, biometa, name))
    for table in ("scan", "channels", "planes", "objective", "detector"):
        assert getattr(back, table) == getattr(biometa, table), table


@settings(max_examples=25, deadline=None)
@given(biometas(), st.booleans())
def test_what_is_written_is_valid_by_the_schema(
    made: tuple[ArraySpec, Biometa, str], with_planes: bool
) -> None:
    spec, biometa, name = made
    xml = to_ome_xml(spec, biometa, name, with_planes=with_planes)
    validate_xml(xml)
    assert from_xml(xml).images[0].pixels.size_c == dict(zip(spec.dims, spec.shape, strict=True))["c"]


def test_the_enumerations_are_those_of_the_schema() -> None:
    schema = "{http://www.w3.org/2001/XMLSchema}"
    root = ElementTree.parse(Path(ome_types.__file__).with_name("ome-2016-06.xsd")).getroot()
    found: dict[str, set[str]] = {}
    for item in root.iter():
        values = {str(value.get("value")) for value in item.iterfind(f".//{schema}enumeration")} - {"Other"}
        if item.tag in (f"{schema}attribute", f"{schema}simpleType") and values:
            found.setdefault(str(item.get("name")), set()).update(values)
    for name in (
        "IlluminationType",
        "AcquisitionMode",
        "ContrastMethod",
        "Immersion",
        "Correction",
        "Binning",
    ):
        assert set(ENUMS[name]) == found[name], name
    assert set(ENUMS["Medium"]) <= found["Medium"]
    assert set(ENUMS["Type"]) <= found["Type"]


def test_a_document_without_metadata_is_valid_too() -> None:
    validate_xml(to_ome_xml(make_spec({"y": 2, "x": 3}), Biometa(), "plain"))


def test_values_outside_the_enumerations_are_written_as_other() -> None:
    row = make_row("channels", index=0, acquisition_mode="quantum", contrast_method="Phase", color="teal")
    xml = to_ome_xml(make_spec({"y": 2, "x": 3}), Biometa(channels=(row,)), "x")
    validate_xml(xml)
    (found,) = from_ome_xml(xml).channels
    assert (found["acquisition_mode"], found["contrast_method"], found["color"]) == ("Other", "Phase", None)


def test_times_that_are_not_regular_are_written_as_planes() -> None:
    spec = make_spec({"t": 3, "y": 2, "x": 2})
    spec = ArraySpec(spec.axes, spec.dtype, spec.levels, {"t": (0.0, 1.0, 5.5)})
    planes = from_ome_xml(to_ome_xml(spec, Biometa(), "x")).planes
    assert [row["delta_t"] for row in planes] == [0.0, 1.0, 5.5]


@pytest.mark.parametrize(
    ("dims", "dtype"), [("qyx", "uint8"), ("zy", "uint8"), ("yx", "int64"), ("yx", "float16")]
)
def test_what_ome_cannot_describe_is_refused(dims: str, dtype: str) -> None:
    with pytest.raises(UnsupportedError) as caught:
        to_ome_xml(make_spec(dict.fromkeys(dims, 2), dtype=dtype), Biometa(), "x")
    assert caught.value.reason == "FORMAT_UNSUPPORTED"


def test_units_are_normalised_and_the_original_is_kept_whole() -> None:
    xml = document(
        '<Channel ID="Channel:0:0" Name="DAPI" EmissionWavelength="0.461" EmissionWavelengthUnit="µm"/>'
        '<Plane TheZ="0" TheC="0" TheT="0" DeltaT="1500" DeltaTUnit="ms" PositionX="2" PositionXUnit="mm"'
        ' PositionY="7" ExposureTime="0.1"/>',
        attributes='PhysicalSizeX="290" PhysicalSizeXUnit="nm" PhysicalSizeY="3" PhysicalSizeYUnit="pixel"'
        ' TimeIncrement="2" TimeIncrementUnit="min"',
    )
    found = from_ome_xml(xml)
    assert found.scan[0]["physical_size_x"] == 0.29
    assert found.scan[0]["physical_size_y"] is None  # a pixel is no length
    assert found.scan[0]["time_increment"] == 120.0
    assert found.channels[0]["emission_wavelength"] == pytest.approx(461.0)
    (plane,) = found.planes
    assert (plane["delta_t"], plane["position_x"], plane["exposure_time"]) == (1.5, 2000.0, 0.1)
    assert plane["position_y"] is None  # without a unit a position has an unknown frame of reference
    assert found.original[0]["text"] == xml


def test_rgb_becomes_three_positions_along_c() -> None:
    xml = document(
        '<Channel ID="Channel:0:0" SamplesPerPixel="3"/><Plane TheZ="0" TheC="0" TheT="0" DeltaT="2"/>'
    )
    xml = xml.replace('SizeC="2"', 'SizeC="3"')
    found = from_ome_xml(xml)
    assert [row["name"] for row in found.channels] == ["Red", "Green", "Blue"]
    assert [row["index"] for row in found.channels] == [0, 1, 2]
    assert [row["the_c"] for row in found.planes] == [0, 1, 2]


def test_channels_that_the_document_does_not_list_have_rows() -> None:
    assert channel_names(OmeDocument(document()).images[0]) == ["", ""]


def test_instrument_objective_and_detector_are_found_by_reference() -> None:
    xml = document(
        '<Channel ID="Channel:0:0"><LightSourceSettings ID="LightSource:0" Wavelength="405"/>'
        '<DetectorSettings ID="Detector:1" Gain="2.5" Binning="2x2"/></Channel>',
        image='<InstrumentRef ID="Instrument:1"/><ObjectiveSettings ID="Objective:1" Medium="Oil"/>',
        before='<Instrument ID="Instrument:0"><Objective ID="Objective:0" LensNA="0.1"/></Instrument>'
        '<Instrument ID="Instrument:1"><Detector ID="Detector:0" Type="PMT"/><Detector'
        ' ID="Detector:1" Type="CCD"/>'
        '<Objective ID="Objective:1" LensNA="1.4" Immersion="Oil"/></Instrument>',
    )
    found = from_ome_xml(xml)
    assert found.objective[0]["lens_na"] == 1.4
    assert [row["type"] for row in found.detector] == ["PMT", "CCD"]
    first = found.channels[0]
    assert (first["detector_index"], first["gain"], first["binning"]) == (1, 2.5, "2x2")
    assert first["excitation_wavelength"] == 405.0


def test_wells_are_named_by_letter_and_number() -> None:
    plate = (
        '<Plate ID="Plate:0" Name="P1"><Well ID="Well:0" Row="27" Column="11"><WellSample'
        ' ID="WellSample:0" Index="0"/>'
        '<WellSample ID="WellSample:1" Index="1"><ImageRef ID="Image:0"/></WellSample></Well></Plate>'
    )
    position = OmeDocument(document(before=plate)).images[0].position
    assert position is not None
    assert (position.plate, position.well, position.field) == ("P1", "AB12", 1)


def test_keys_of_annotations_can_be_searched() -> None:
    annotations = (
        '<StructuredAnnotations><MapAnnotation ID="Annotation:0"><Value><M K="Laser">405 nm</M>'
        "</Value></MapAnnotation>"
        '<XMLAnnotation ID="Annotation:1"><Value><OriginalMetadata><Key>Zoom</Key>'
        "<Value>2</Value></OriginalMetadata>"
        "</Value></XMLAnnotation></StructuredAnnotations>"
    )
    found = from_ome_xml(document().replace("</OME>", annotations + "</OME>"))
    assert found.original[0]["attributes"] == {"Laser": "405 nm", "Zoom": "2"}


def test_a_document_too_large_for_the_database_keeps_the_image_without_planes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plane = '<Plane TheZ="0" TheC="0" TheT="0" DeltaT="2"/>'
    xml = document(plane * 200, image="<Description>kept</Description>")
    monkeypatch.setattr("larvik.biometa.ome_read.MAX_ORIGINAL", 2000)
    found = biometa_of(OmeDocument(xml).images[0])
    assert len(found.planes) == 1
    assert "kept" in found.original[0]["text"]
    assert "<Plane" not in found.original[0]["text"]


def test_acquisition_time_is_utc_only_when_the_file_tells_the_zone() -> None:
    assert acquisition_time("2024-05-01T12:00:00+02:00") == (datetime(2024, 5, 1, 10, tzinfo=UTC), None)
    assert acquisition_time("2024-05-01T12:00:00.123456789") == (None, "2024-05-01T12:00:00.123456")
    assert acquisition_time("yesterday") == acquisition_time(None) == (None, None)
    assert acquisition_time("0001-01-01T00:00:00+14:00") == (None, None)


@pytest.mark.parametrize(
    ("xml", "field"),
    [
        ("", "OME-XML"),
        ("<OME", "OME-XML"),
        ("<html/>", "OME-XML"),
        ('<!DOCTYPE OME [<!ENTITY a "aaa">]><OME>&a;</OME>', "OME-XML"),
        (document().replace('SizeC="2"', 'SizeC="two"'), "SizeC"),
        (document().replace('SizeC="2"', 'SizeC="99999999999"'), "SizeC"),
        (document().replace('SizeX="4"', 'SizeX="-4"'), "SizeX"),
        (document().replace("XYZCT", "XYZ"), "DimensionOrder"),
        (f'{HEAD}<Image ID="Image:0"/></OME>', "Pixels"),
    ],
)
def test_broken_documents_name_the_field(xml: str, field: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        from_ome_xml(xml)
    assert caught.value.reason == "METADATA_INVALID"
    assert caught.value.metadata["field"] == field


def test_an_image_that_is_not_there_is_refused() -> None:
    with pytest.raises(SelectionError):
        from_ome_xml(document(), 1)


def test_entities_are_never_expanded() -> None:
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    with pytest.raises(InvalidArgumentError, match="document type"):
        OmeDocument(f'<!DOCTYPE x [<!ENTITY l0 "lol">{entities}]><OME>&l9;</OME>')


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_damaged_documents_raise_only_typed_errors(data: st.DataObject) -> None:
    whole = to_ome_xml(make_spec({"c": 2, "z": 2, "y": 2, "x": 2}), Biometa(), "x").encode()
    if data.draw(st.booleans()):
        xml = whole[: data.draw(st.integers(0, len(whole)))]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        xml = whole[:place] + data.draw(st.binary(min_size=1, max_size=8)) + whole[place + 1 :]
    with suppress(LarvikError):
        from_ome_xml(xml)
