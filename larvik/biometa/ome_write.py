"""From the tables of `Biometa` to OME-XML, valid against the OME 2016-06 schema."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from larvik.array.spec import ArraySpec
from larvik.biometa.tables import Biometa, Row, make_row
from larvik.errors import UnsupportedError

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
#: OME pixel types of the dtypes that it has.
PIXEL_TYPES = {
    "bool": "bit", "int8": "int8", "int16": "int16", "int32": "int32", "uint8": "uint8", "uint16": "uint16",
    "uint32": "uint32", "float32": "float", "float64": "double",
}  # fmt: skip
#: Values that the schema allows; what is none of them is written as ``Other``.
ENUMS = {
    "IlluminationType": ("Transmitted", "Epifluorescence", "Oblique", "NonLinear"),
    "AcquisitionMode": (
        "WideField", "LaserScanningConfocalMicroscopy", "SpinningDiskConfocal", "SlitScanConfocal",
        "MultiPhotonMicroscopy", "StructuredIllumination", "SingleMoleculeImaging", "TotalInternalReflection",
        "FluorescenceLifetime", "SpectralImaging", "FluorescenceCorrelationSpectroscopy", "FSM",
        "LCM", "STED", "NearFieldScanningOpticalMicroscopy", "SPIM", "PALM", "STORM", "TIRF",
        "SecondHarmonicGenerationImaging", "BrightField", "SweptFieldConfocal",
    ),
    "ContrastMethod": (
        "Brightfield", "Phase", "DIC", "HoffmanModulation", "ObliqueIllumination",
        "PolarizedLight", "Darkfield",
        "Fluorescence",
    ),
    "Binning": ("1x1", "2x2", "4x4", "8x8"),
    "Immersion": ("Oil", "Water", "WaterDipping", "Air", "Multi", "Glycerol"),
    "Correction": (
        "UV", "PlanApo", "PlanFluor", "SuperFluor", "VioletCorrected", "Achro", "Achromat", "Fluor", "Fl",
        "Fluar", "Neofluar", "Fluotar", "Apo", "PlanNeofluar",
    ),
    "Medium": ("Air", "Oil", "Water", "Glycerol"),
    "Type": (
        "CCD", "IntensifiedCCD", "AnalogVideo", "PMT", "Photodiode", "Spectroscopy", "LifetimeImaging",
        "CorrelationSpectroscopy", "FTIR", "EMCCD", "APD", "CMOS", "EBCCD",
    ),
}  # fmt: skip
#: Time as the schema wants it.
_DATE_TIME = re.compile(r"-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?")
#: Characters that XML 1.0 cannot hold.
_NO_XML = re.compile(r"[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

Element = ElementTree.Element


def why_not_ome(spec: ArraySpec) -> str | None:
    """Return what of `spec` OME-XML cannot describe, None when it can."""
    if not {"y", "x"} <= set(spec.dims) <= set("tczyx"):
        return f"its dims are {' '.join(spec.dims)}, and OME knows t c z y x"
    if spec.dtype not in PIXEL_TYPES:
        return f"its dtype is {spec.dtype}, and OME has {', '.join(PIXEL_TYPES)}"
    return None


def to_ome_xml(spec: ArraySpec, biometa: Biometa, name: str, *, with_planes: bool = False) -> str:
    """Return the OME-XML document of one image.

    Parameters
    ----------
    spec : ArraySpec
        Of the image; its sizes and spacing are written, not those of the tables.
    biometa : Biometa
        Channel rows belong to the positions of ``c`` in order when there are as many, else by ``index``.
    name : str
        Name of the image.
    with_planes : bool
        Whether the document lies in the TIFF that holds the planes, in the order t, c, z from IFD 0;
        else it says that it is metadata only.

    Raises
    ------
    UnsupportedError
        ``FORMAT_UNSUPPORTED``, for dims or a dtype that OME has not; see `why_not_ome`.
    """
    problem = why_not_ome(spec)
    if problem:
        raise UnsupportedError(f"OME-XML cannot describe this array: {problem}.", reason="FORMAT_UNSUPPORTED")
    root = ElementTree.Element(
        "OME",
        {
            "xmlns": NAMESPACE,
            "xmlns:xsi": "http://www.w3.org/2001/XMLSchema-instance",
            "xsi:schemaLocation": f"{NAMESPACE} {NAMESPACE}/ome.xsd",
            "Creator": "larvik",
        },
    )
    if biometa.objective or biometa.detector:
        _add_instrument(root, biometa)
    image = _add(root, "Image", ID="Image:0", Name=name)
    scan = biometa.scan[0] if biometa.scan else make_row("scan")
    if scan["acquisition_date"] and _DATE_TIME.fullmatch(scan["acquisition_date"]):
        _add(image, "AcquisitionDate").text = scan["acquisition_date"]
    if biometa.objective or biometa.detector:
        _add(image, "InstrumentRef", ID="Instrument:0")
    if biometa.objective:
        _add_objective_settings(image, biometa.objective[0])
    pixels = _add(image, "Pixels", ID="Pixels:0", **_pixels(spec, scan, with_planes=with_planes))
    sizes = _sizes(spec)
    for index, row in enumerate(channel_rows(spec, biometa)):
        _add_channel(pixels, index, row, len(biometa.detector))
    if with_planes:
        _add(pixels, "TiffData", IFD=0, PlaneCount=sizes["Z"] * sizes["C"] * sizes["T"])
    else:
        _add(pixels, "MetadataOnly")
    for row in _plane_rows(spec, biometa, sizes):
        _add_plane(pixels, row)
    return '<?xml version="1.0" encoding="UTF-8"?>' + ElementTree.tostring(root, encoding="unicode")


def channel_rows(spec: ArraySpec, biometa: Biometa) -> list[Row]:
    """Return one row for each position along c of `spec`, named."""
    size = _sizes(spec)["C"]
    by_index = {row["index"]: row for row in biometa.channels}
    rows = []
    for index in range(size):
        found = biometa.channels[index] if len(biometa.channels) == size else by_index.get(index)
        row = found or make_row("channels", index=index)
        spoken = spec.channel_names[index] if index < len(spec.channel_names) else None
        rows.append({**row, "name": row["name"] or spoken})
    return rows


def _pixels(spec: ArraySpec, scan: Row, *, with_planes: bool) -> dict[str, Any]:
    level = spec.levels[0]
    # A TIFF holds booleans as bytes: one bit for a pixel is what few programs read.
    pixel_type = "uint8" if with_planes and spec.dtype == "bool" else PIXEL_TYPES[spec.dtype]
    values: dict[str, Any] = {
        "DimensionOrder": "XYZCT",
        "Type": pixel_type,
        "SignificantBits": scan["significant_bits"] if (scan["significant_bits"] or 0) > 0 else None,
        **{f"Size{axis}": size for axis, size in _sizes(spec).items()},
    }
    for axis, spacing in zip(spec.axes, level.spacing, strict=True):
        if axis.name in "zyx" and axis.unit == "micrometer":
            values[f"PhysicalSize{axis.name.upper()}"] = spacing
            values[f"PhysicalSize{axis.name.upper()}Unit"] = "µm"
    for letter in "XYZ":  # an axis that the array no longer has keeps what the file said of it
        size = scan[f"physical_size_{letter.lower()}"]
        if letter.lower() not in spec.dims and size:
            values.update({f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": "µm"})
    increment = _time_increment(spec) or scan["time_increment"]
    if increment:
        values.update(TimeIncrement=increment, TimeIncrementUnit="s")
    return values


def _time_increment(spec: ArraySpec) -> float | None:
    for axis, spacing in zip(spec.axes, spec.levels[0].spacing, strict=True):
        if axis.name == "t" and axis.unit == "second" and "t" not in spec.coordinates:
            return spacing
    return None


def _sizes(spec: ArraySpec) -> dict[str, int]:
    sizes = dict(zip(spec.dims, spec.shape, strict=True))
    return {axis: sizes.get(axis.lower(), 1) for axis in "XYZCT"}


def _add_instrument(root: Element, biometa: Biometa) -> None:
    instrument = _add(root, "Instrument", ID="Instrument:0")
    for index, row in enumerate(biometa.detector):
        _add(
            instrument, "Detector", ID=f"Detector:0:{index}", Manufacturer=row["manufacturer"],
            Model=row["model"], Type=_enum("Type", row["type"]), Gain=row["gain"], Offset=row["offset"],
            **_quantity("Voltage", row["voltage"], "V"),
        )  # fmt: skip
    for row in biometa.objective[:1]:
        _add(
            instrument, "Objective", ID="Objective:0:0", Manufacturer=row["manufacturer"], Model=row["model"],
            NominalMagnification=row["nominal_magnification"],
            CalibratedMagnification=row["calibrated_magnification"], LensNA=row["lens_na"],
            Immersion=_enum("Immersion", row["immersion"]), Correction=_enum("Correction", row["correction"]),
            **_quantity("WorkingDistance", row["working_distance"], "µm"),
        )  # fmt: skip


def _add_objective_settings(image: Element, row: Row) -> None:
    _add(
        image, "ObjectiveSettings", ID="Objective:0:0", Medium=_enum("Medium", row["medium"]),
        RefractiveIndex=row["refractive_index"],
    )  # fmt: skip


def _add_channel(pixels: Element, index: int, row: Row, detectors: int) -> None:
    # Every position along c is a channel of its own here, so each has one sample.
    channel = _add(
        pixels, "Channel", ID=f"Channel:0:{index}", SamplesPerPixel=1, Name=row["name"], Fluor=row["fluor"],
        **_quantity("EmissionWavelength", _above_zero(row["emission_wavelength"]), "nm"),
        **_quantity("ExcitationWavelength", _above_zero(row["excitation_wavelength"]), "nm"),
        IlluminationType=_enum("IlluminationType", row["illumination_type"]),
        AcquisitionMode=_enum("AcquisitionMode", row["acquisition_mode"]),
        ContrastMethod=_enum("ContrastMethod", row["contrast_method"]),
        **_quantity("PinholeSize", row["pinhole_size"], "µm"),
        NDFilter=row["nd_filter"], Color=_color(row["color"]),
    )  # fmt: skip
    detector = row["detector_index"]
    if detector is not None and 0 <= detector < detectors:
        _add(
            channel, "DetectorSettings", ID=f"Detector:0:{detector}", Gain=row["gain"],
            Binning=_enum("Binning", row["binning"]),
        )  # fmt: skip


def _plane_rows(spec: ArraySpec, biometa: Biometa, sizes: Mapping[str, int]) -> Sequence[Row]:
    """Return the planes inside the array; without any, one for each time that is not regular."""
    inside = [
        row for row in biometa.planes if all(0 <= row[f"the_{axis.lower()}"] < sizes[axis] for axis in "ZCT")
    ]
    times = spec.coordinates.get("t", ())
    if not inside and all(isinstance(time, int | float) for time in times):
        return [
            make_row("planes", the_t=index, the_c=0, the_z=0, delta_t=time)
            for index, time in enumerate(times)
        ]
    return inside


def _add_plane(pixels: Element, row: Row) -> None:
    _add(
        pixels, "Plane", TheZ=row["the_z"], TheC=row["the_c"], TheT=row["the_t"],
        **_quantity("DeltaT", row["delta_t"], "s"), **_quantity("ExposureTime", row["exposure_time"], "s"),
        **_quantity("PositionX", row["position_x"], "µm"), **_quantity("PositionY", row["position_y"], "µm"),
        **_quantity("PositionZ", row["position_z"], "µm"),
    )  # fmt: skip


def _add(parent: Element, tag: str, **attributes: Any) -> Element:
    """Append an element; attributes that are None are left out."""
    return ElementTree.SubElement(
        parent, tag, {name: _text(value) for name, value in attributes.items() if value is not None}
    )


def _text(value: Any) -> str:
    return repr(value) if isinstance(value, float) else _NO_XML.sub("", str(value))


def _quantity(name: str, value: float | None, unit: str) -> dict[str, Any]:
    return {} if value is None else {name: value, f"{name}Unit": unit}


def _above_zero(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _enum(name: str, value: str | None) -> str | None:
    return value if value is None or value in ENUMS[name] else "Other"


def _color(text: str | None) -> int | None:
    """Return ``#rrggbb`` or ``#rrggbbaa`` as the signed integer of OME."""
    digits = (text or "").removeprefix("#")
    if not re.fullmatch(r"[0-9a-fA-F]{6}([0-9a-fA-F]{2})?", digits):
        return None
    value = int(digits if len(digits) == 8 else digits + "ff", 16)
    return value - 2**32 if value >= 2**31 else value
