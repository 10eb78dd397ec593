"""From OME-XML to the tables of `Biometa`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from xml.etree import ElementTree

from larvik.biometa.document import Element, OmeDocument, OmeImage, child, children, integer, local, number
from larvik.biometa.tables import Biometa, Row, make_row
from larvik.biometa.units import convert
from larvik.errors import SelectionError

#: Names of the samples of a pixel, where a channel has three or four.
SAMPLE_NAMES = ("Red", "Green", "Blue", "Alpha")
#: Characters of the original metadata that the database takes.
MAX_ORIGINAL = 16 * 2**20
#: Keys of annotations that are kept apart from the text, and characters of each value.
MAX_KEYS, MAX_VALUE = 2000, 500


def from_ome_xml(xml: str | bytes, image_index: int = 0) -> Biometa:
    """Return the metadata of one image of an OME-XML document.

    Parameters
    ----------
    xml : str or bytes
        The whole document.
    image_index : int
        Position of the image in it, from 0.

    Raises
    ------
    InvalidArgumentError
        ``METADATA_INVALID``, when it cannot be parsed; names the field.
    SelectionError
        ``SERIES_NOT_FOUND``, when it has no such image.
    """
    images = OmeDocument(xml).images
    if not 0 <= image_index < len(images):
        raise SelectionError(
            f"There is no image {image_index} in the OME-XML; it has {len(images)}.",
            reason="SERIES_NOT_FOUND",
            field="image_index",
        )
    return biometa_of(images[image_index])


def biometa_of(image: OmeImage) -> Biometa:
    """Return the metadata of `image`."""
    instrument = _instrument(image)
    detectors = [] if instrument is None else list(children(instrument, "Detector"))
    objective = _objective(image, instrument)
    return Biometa(
        scan=(_scan(image),),
        channels=tuple(_channels(image, [item.get("ID", "") for item in detectors])),
        planes=tuple(_planes(image)),
        objective=() if objective is None else (objective,),
        detector=tuple(_detector(index, item) for index, item in enumerate(detectors)),
        original=(
            make_row("original", format="ome-xml", text=_original(image), attributes=_annotations(image)),
        ),
    )


def channel_names(image: OmeImage) -> list[str]:
    """Return the name of each position along c, empty where the document has none."""
    return [row["name"] or "" for row in _channels(image, [])]


def quantity(element: Element, name: str, target: str, default_unit: str) -> float | None:
    """Return a quantity with its ``...Unit`` attribute, in `target`; None when it is no such measure."""
    return convert(number(element, name), element.get(f"{name}Unit") or default_unit, target)


def positive(value: float | None) -> float | None:
    """Return `value` when it is above zero; sizes that are not mean that nothing is known."""
    return value if value is not None and 0 < value < float("inf") else None


def _scan(image: OmeImage) -> Row:
    pixels, sizes = image.pixels, image.sizes
    date = child(image.element, "AcquisitionDate")
    return make_row(
        "scan",
        name=image.element.get("Name"),
        dimension_order=image.dimension_order,
        pixel_type=image.pixel_type or None,
        significant_bits=integer(pixels, "SignificantBits"),
        **{f"size_{axis.lower()}": size for axis, size in sizes.items()},
        **{f"physical_size_{axis.lower()}": physical_size(image, axis) for axis in "XYZ"},
        time_increment=positive(quantity(pixels, "TimeIncrement", "second", "s")),
        acquisition_date=None if date is None else (date.text or "").strip() or None,
    )


def physical_size(image: OmeImage, axis: str) -> float | None:
    """Return the pixel size along ``X``, ``Y`` or ``Z`` in micrometer, or None."""
    return positive(quantity(image.pixels, f"PhysicalSize{axis}", "micrometer", "µm"))


def _channels(image: OmeImage, detector_ids: Sequence[str]) -> list[Row]:
    rows: list[Row] = []
    for number_, samples in enumerate(image.samples):
        element = image.channels[number_] if number_ < len(image.channels) else None
        row = make_row("channels", index=len(rows)) if element is None else _channel(element, detector_ids)
        for sample in range(samples):
            rows.append({**row, "index": len(rows), **_sample(row, sample, samples, len(image.samples))})
    return rows


def _channel(element: Element, detector_ids: Sequence[str]) -> Row:
    settings, light = child(element, "DetectorSettings"), child(element, "LightSourceSettings")
    excitation = quantity(element, "ExcitationWavelength", "nanometer", "nm")
    if excitation is None and light is not None:
        excitation = quantity(light, "Wavelength", "nanometer", "nm")
    detector = None if settings is None else settings.get("ID")
    return make_row(
        "channels",
        index=0,
        name=element.get("Name"),
        fluor=element.get("Fluor"),
        emission_wavelength=positive(quantity(element, "EmissionWavelength", "nanometer", "nm")),
        excitation_wavelength=positive(excitation),
        color=color_text(integer(element, "Color")),
        illumination_type=element.get("IlluminationType"),
        acquisition_mode=element.get("AcquisitionMode"),
        contrast_method=element.get("ContrastMethod"),
        pinhole_size=quantity(element, "PinholeSize", "micrometer", "µm"),
        samples_per_pixel=integer(element, "SamplesPerPixel"),
        nd_filter=number(element, "NDFilter"),
        detector_index=detector_ids.index(detector) if detector in detector_ids else None,
        gain=None if settings is None else number(settings, "Gain"),
        binning=None if settings is None else settings.get("Binning"),
    )


def _sample(row: Row, sample: int, samples: int, channels: int) -> Row:
    """Return what differs between the samples of one channel: RGB becomes three positions along c."""
    if samples == 1:
        return {}
    if samples > len(SAMPLE_NAMES) or samples == 2:
        return {"name": f"{row['name'] or 'Sample'} {sample}"}
    name = SAMPLE_NAMES[sample]
    colors = ("#ff0000", "#00ff00", "#0000ff", None)
    return {"name": name if channels == 1 else f"{row['name'] or 'Channel'} {name}", "color": colors[sample]}


def color_text(value: int | None) -> str | None:
    """Return the signed RGBA integer of OME as ``#rrggbb``, or ``#rrggbbaa`` when partly transparent."""
    if value is None or not -(2**31) <= value < 2**32:
        return None
    text = f"{value & 0xFFFFFFFF:08x}"
    return f"#{text[:6]}" if text[6:] in ("ff", "00") else f"#{text}"


def _planes(image: OmeImage) -> list[Row]:
    samples = image.samples
    first = [sum(samples[:number_]) for number_ in range(len(samples))]
    rows = {}
    for element in children(image.pixels, "Plane"):
        z, c, t = (integer(element, name, -1) for name in ("TheZ", "TheC", "TheT"))
        if z is None or c is None or t is None or not 0 <= c < len(samples):
            continue
        if not (0 <= z < image.sizes["Z"] and 0 <= t < image.sizes["T"]):
            continue
        row = _plane(element)
        for sample in range(samples[c]):
            place = (t, first[c] + sample, z)
            rows[place] = {**row, "the_t": place[0], "the_c": place[1], "the_z": place[2]}
    return [rows[place] for place in sorted(rows)]


def _plane(element: Element) -> Row:
    return make_row(
        "planes",
        delta_t=quantity(element, "DeltaT", "second", "s"),
        exposure_time=quantity(element, "ExposureTime", "second", "s"),
        # A position without a unit is in an unknown frame of reference, says the schema.
        **{
            f"position_{axis.lower()}": quantity(element, f"Position{axis}", "micrometer", "reference frame")
            for axis in "XYZ"
        },
    )


def _instrument(image: OmeImage) -> Element | None:
    ref = child(image.element, "InstrumentRef")
    if ref is not None:
        return image.document.by_id.get(ref.get("ID", ""))
    instruments = list(children(image.document.root, "Instrument"))
    return instruments[0] if len(instruments) == 1 else None


def _objective(image: OmeImage, instrument: Element | None) -> Row | None:
    settings = child(image.element, "ObjectiveSettings")
    element = None
    if settings is not None:
        element = image.document.by_id.get(settings.get("ID", ""))
    elif instrument is not None:
        objectives = list(children(instrument, "Objective"))
        element = objectives[0] if len(objectives) == 1 else None
    if element is None:
        return None
    return make_row(
        "objective",
        manufacturer=element.get("Manufacturer"),
        model=element.get("Model"),
        nominal_magnification=number(element, "NominalMagnification"),
        calibrated_magnification=number(element, "CalibratedMagnification"),
        lens_na=number(element, "LensNA"),
        immersion=element.get("Immersion"),
        correction=element.get("Correction"),
        working_distance=quantity(element, "WorkingDistance", "micrometer", "µm"),
        medium=None if settings is None else settings.get("Medium"),
        refractive_index=None if settings is None else number(settings, "RefractiveIndex"),
    )


def _detector(index: int, element: Element) -> Row:
    return make_row(
        "detector",
        index=index,
        manufacturer=element.get("Manufacturer"),
        model=element.get("Model"),
        type=element.get("Type"),
        gain=number(element, "Gain"),
        offset=number(element, "Offset"),
        voltage=quantity(element, "Voltage", "volt", "V"),
    )


def _original(image: OmeImage) -> str:
    """Return the whole document; of one too large for the database, this image without its planes."""
    text = image.document.xml
    if len(text) <= MAX_ORIGINAL:
        return text
    kept = ElementTree.Element(image.document.root.tag, image.document.root.attrib)
    for item in image.document.root:
        if item is image.element:
            kept.append(_without_planes(image))
        elif local(item.tag) not in ("Image", "StructuredAnnotations", "BinaryOnly"):
            kept.append(item)
    return ElementTree.tostring(kept, encoding="unicode")[:MAX_ORIGINAL]


def _without_planes(image: OmeImage) -> Element:
    copy = ElementTree.Element(image.element.tag, image.element.attrib)
    for item in image.element:
        if item is not image.pixels:
            copy.append(item)
            continue
        pixels = ElementTree.SubElement(copy, item.tag, item.attrib)
        pixels.extend(one for one in item if local(one.tag) not in ("Plane", "TiffData"))
    return copy


def _annotations(image: OmeImage) -> dict[str, Any] | None:
    """Return the key-value pairs of map annotations and of vendors' original metadata."""
    section = child(image.document.root, "StructuredAnnotations")
    found: dict[str, Any] = {}
    for annotation in () if section is None else section:
        for item in annotation.iter():
            if len(found) >= MAX_KEYS:
                return found
            if local(item.tag) == "M" and item.get("K"):
                found[str(item.get("K"))[:MAX_VALUE]] = (item.text or "")[:MAX_VALUE]
            elif local(item.tag) == "OriginalMetadata":
                key, value = child(item, "Key"), child(item, "Value")
                if key is not None and key.text:
                    found[key.text[:MAX_VALUE]] = "" if value is None else (value.text or "")[:MAX_VALUE]
    return found or None
