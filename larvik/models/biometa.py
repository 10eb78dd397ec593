"""biometa: OME metadata of arrays, one row for each scan, channel, plane, objective, detector.

Labels are the attribute names of the OME 2016-06 schema. Lengths of planes and pixels are in
micrometer, wavelengths in nanometer, times in second; the file's own units stay in the original.
"""

from __future__ import annotations

from typing import Any

from larvik.models.base import Part, field


class Scan(Part, part_of="biometa__scan", indexes=(("object_id",),)):
    """How the image was scanned: sizes, physical sizes, time increment, pixel type."""

    name: str | None = field(default=None, label="Name", max_length=1000, doc="Image name in the file.")
    dimension_order: str | None = field(
        default=None, label="DimensionOrder", max_length=20, doc="Order in the file."
    )
    pixel_type: str | None = field(default=None, label="PixelType", max_length=20, doc="OME pixel type.")
    significant_bits: int | None = field(default=None, label="SignificantBits", doc="Bits that carry signal.")
    size_x: int | None = field(default=None, label="SizeX", doc="Pixels along x.")
    size_y: int | None = field(default=None, label="SizeY", doc="Pixels along y.")
    size_z: int | None = field(default=None, label="SizeZ", doc="Sections.")
    size_c: int | None = field(default=None, label="SizeC", doc="Channels.")
    size_t: int | None = field(default=None, label="SizeT", doc="Time points.")
    physical_size_x: float | None = field(
        default=None, label="PhysicalSizeX", unit="micrometer", doc="Pixel width."
    )
    physical_size_y: float | None = field(
        default=None, label="PhysicalSizeY", unit="micrometer", doc="Pixel height."
    )
    physical_size_z: float | None = field(
        default=None, label="PhysicalSizeZ", unit="micrometer", doc="Section step."
    )
    time_increment: float | None = field(default=None, label="TimeIncrement", unit="second", doc="Time step.")
    acquisition_date: str | None = field(
        default=None, label="AcquisitionDate", max_length=40, doc="As the file has it, ISO 8601."
    )


class Channel(Part, part_of="biometa__channels", indexes=(("object_id", "index"), ("name", "object_id"))):
    """One channel of an image."""

    index: int = field(label="Index", doc="Position along c, from 0.")
    name: str | None = field(default=None, label="Name", max_length=1000, doc="Name of the channel.")
    fluor: str | None = field(default=None, label="Fluor", max_length=1000, doc="Fluorophore.")
    emission_wavelength: float | None = field(
        default=None, label="EmissionWavelength", unit="nanometer", doc="Emission wavelength."
    )
    excitation_wavelength: float | None = field(
        default=None, label="ExcitationWavelength", unit="nanometer", doc="Excitation wavelength."
    )
    color: str | None = field(default=None, label="Color", max_length=9, doc="``#rrggbb`` for display.")
    illumination_type: str | None = field(
        default=None, label="IlluminationType", max_length=100, doc="OME enum."
    )
    acquisition_mode: str | None = field(
        default=None, label="AcquisitionMode", max_length=100, doc="OME enum."
    )
    contrast_method: str | None = field(default=None, label="ContrastMethod", max_length=100, doc="OME enum.")
    pinhole_size: float | None = field(
        default=None, label="PinholeSize", unit="micrometer", doc="Pinhole diameter."
    )
    samples_per_pixel: int | None = field(default=None, label="SamplesPerPixel", doc="Samples, 3 for RGB.")
    nd_filter: float | None = field(default=None, label="NDFilter", doc="Neutral density, 0 to 1.")
    window_start: float | None = field(default=None, label="WindowStart", doc="Intensity shown black.")
    window_end: float | None = field(default=None, label="WindowEnd", doc="Intensity shown brightest.")
    detector_index: int | None = field(default=None, label="DetectorIndex", doc="Row of the detector table.")
    gain: float | None = field(default=None, label="Gain", doc="Detector gain.")
    binning: str | None = field(default=None, label="Binning", max_length=20, doc="Detector binning.")


class Plane(Part, part_of="biometa__planes", indexes=(("object_id", "the_t", "the_c", "the_z"),)):
    """One plane as it was acquired: when and where."""

    the_z: int = field(label="TheZ", doc="Section, from 0.")
    the_c: int = field(label="TheC", doc="Channel, from 0.")
    the_t: int = field(label="TheT", doc="Time point, from 0.")
    delta_t: float | None = field(
        default=None, label="DeltaT", unit="second", doc="Since the acquisition began."
    )
    exposure_time: float | None = field(default=None, label="ExposureTime", unit="second", doc="Exposure.")
    position_x: float | None = field(
        default=None, label="PositionX", unit="micrometer", doc="Stage position."
    )
    position_y: float | None = field(
        default=None, label="PositionY", unit="micrometer", doc="Stage position."
    )
    position_z: float | None = field(
        default=None, label="PositionZ", unit="micrometer", doc="Stage position."
    )


class Objective(Part, part_of="biometa__objective", indexes=(("object_id",),)):
    """The objective that the image was taken with."""

    manufacturer: str | None = field(default=None, label="Manufacturer", max_length=1000, doc="Maker.")
    model: str | None = field(default=None, label="Model", max_length=1000, doc="Model.")
    nominal_magnification: float | None = field(default=None, label="NominalMagnification", doc="Engraved.")
    calibrated_magnification: float | None = field(
        default=None, label="CalibratedMagnification", doc="Measured."
    )
    lens_na: float | None = field(default=None, label="LensNA", doc="Numerical aperture.")
    immersion: str | None = field(default=None, label="Immersion", max_length=100, doc="OME enum.")
    correction: str | None = field(default=None, label="Correction", max_length=100, doc="OME enum.")
    working_distance: float | None = field(
        default=None, label="WorkingDistance", unit="micrometer", doc="Working distance."
    )
    medium: str | None = field(default=None, label="Medium", max_length=100, doc="Medium used.")
    refractive_index: float | None = field(default=None, label="RefractiveIndex", doc="Of the medium.")


class Detector(Part, part_of="biometa__detector", indexes=(("object_id", "index"),)):
    """A detector of the instrument."""

    index: int = field(label="Index", doc="Position in the instrument, from 0.")
    manufacturer: str | None = field(default=None, label="Manufacturer", max_length=1000, doc="Maker.")
    model: str | None = field(default=None, label="Model", max_length=1000, doc="Model.")
    type: str | None = field(default=None, label="Type", max_length=100, doc="OME enum: CCD, PMT, ...")
    gain: float | None = field(default=None, label="Gain", doc="Gain.")
    offset: float | None = field(default=None, label="Offset", doc="Offset.")
    voltage: float | None = field(default=None, label="Voltage", unit="volt", doc="Voltage.")


class OriginalMetadata(Part, part_of="biometa__original", indexes=(("object_id",),)):
    """The metadata exactly as the file had it: OME-XML, vendor text or attributes."""

    format: str = field(
        max_length=100, label="Format", doc="``ome-xml``, ``imagej``, ``ngff`` or a reader's name."
    )
    text: str = field(max_length=16 * 2**20, label="Text", doc="The whole text.")
    attributes: dict[str, Any] | None = field(
        default=None, label="Attributes", doc="Keys that the text was read into."
    )
