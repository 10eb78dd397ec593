"""Small images as microscopes and their programs write them, for tests: OME-TIFF and OME-Zarr of every shape.

None of it uses the readers and writers of Larvik: TIFF comes from tifffile, and Zarr is written here
byte by byte, so that a test compares two programs.
"""

from __future__ import annotations

import gzip
import itertools
import json
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np

NAMESPACE = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
CHANNELS = ("DAPI", "GFP", "mCherry", "Cy5")
EMISSION = (461.0, 510.0, 610.0, 670.0)
COLORS = ("0000FF", "00FF00", "FF0000", "FFFFFF")
OME_TYPES = {"float32": "float", "float64": "double", "bool": "bit"}


def cells(sizes: Mapping[str, int], dtype: str = "uint16", *, seed: int = 0) -> np.ndarray:
    """Return an image of blurred round nuclei on a noisy background, other nuclei in every channel.

    Parameters
    ----------
    sizes : mapping of str to int
        Sizes by dim, in array order; dims of ``t c z y x``, ``y`` and ``x`` included.
    dtype : str
        Of the pixels; floats lie between 0 and 1, booleans are where it is bright.
    """
    rng = np.random.default_rng(seed)
    full = {dim: sizes.get(dim, 1) for dim in "tczyx"}
    z, y, x = np.meshgrid(*(np.arange(full[dim]) for dim in "zyx"), indexing="ij", sparse=True)
    radius = max(2.0, min(full["y"], full["x"]) / 8)
    image = rng.normal(0.08, 0.02, list(full.values())).clip(0, 1)
    for channel in range(full["c"]):
        for _ in range(6):
            place = [rng.uniform(0, full[dim]) for dim in "zyx"]
            drift = rng.normal(0, radius / 4, (full["t"], 2)).cumsum(axis=0)
            for t in range(full["t"]):
                distance = (
                    ((z - place[0]) * 2) ** 2
                    + (y - place[1] - drift[t, 0]) ** 2
                    + (x - place[2] - drift[t, 1]) ** 2
                )
                image[t, channel] += 0.7 * np.exp(-distance / (2 * radius**2))
    image = image.clip(0, 1).reshape(list(sizes.values()))
    if dtype == "bool":
        return np.asarray(image > 0.4)
    if "float" in dtype:
        return image.astype(dtype)
    return np.asarray((image * np.iinfo(dtype).max * 0.9).astype(dtype))


def nuclei_labels(pixels: np.ndarray, dtype: str = "uint16") -> np.ndarray:
    """Return labels of the bright parts of an image of shape (z, y, x): one number for each slab along x."""
    bright = pixels > pixels.min() + (pixels.max() - pixels.min()) * 0.5
    slabs = 1 + np.arange(pixels.shape[-1]) // 8
    return np.where(bright, slabs, 0).astype(dtype)


# OME-TIFF


def ome_xml(
    sizes: Mapping[str, int],
    dtype: str,
    *,
    name: str = "cells",
    spacing: Mapping[str, float] | None = None,
    channels: Sequence[str] = CHANNELS,
    tiff_data: str = "<TiffData/>",
    times: Sequence[float] = (),
    date: str | None = "2024-05-01T12:00:00Z",
) -> str:
    """Return an OME-XML document as an acquisition program writes it: instrument, channels, planes."""
    full = {axis: sizes.get(axis.lower(), 1) for axis in "XYZCT"}
    step = {"x": 0.25, "y": 0.25, "z": 0.5, **(spacing or {})}
    attributes = "".join(f' Size{axis}="{size}"' for axis, size in full.items())
    attributes += "".join(f' PhysicalSize{axis}="{step[axis.lower()]}"' for axis in "XYZ")
    described = "".join(
        f'<Channel ID="Channel:0:{c}" SamplesPerPixel="1" Name={quoteattr(channels[c % len(channels)])}'
        f' EmissionWavelength="{EMISSION[c % 4]}" Color="{_signed(COLORS[c % 4])}">'
        f'<DetectorSettings ID="Detector:0" Gain="1.5" Binning="1x1"/></Channel>'
        for c in range(full["C"])
    )
    planes = "".join(
        f'<Plane TheZ="{z}" TheC="{c}" TheT="{t}" DeltaT="{time}" ExposureTime="0.05"'
        f' PositionX="{10 * t}" PositionXUnit="µm"/>'
        for t, time in enumerate(times)
        for c in range(full["C"])
        for z in range(full["Z"])
    )
    acquired = f"<AcquisitionDate>{date}</AcquisitionDate>" if date else ""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><OME xmlns="{NAMESPACE}" Creator="a microscope">'
        '<Instrument ID="Instrument:0"><Detector ID="Detector:0" Model="Orca" Type="CMOS"/>'
        '<Objective ID="Objective:0" Model="Plan" NominalMagnification="63" LensNA="1.4"'
        ' Immersion="Oil"/></Instrument>'
        f'<Image ID="Image:0" Name={quoteattr(name)}>{acquired}<InstrumentRef ID="Instrument:0"/>'
        '<ObjectiveSettings ID="Objective:0" Medium="Oil" RefractiveIndex="1.518"/>'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="{OME_TYPES.get(dtype, dtype)}"{attributes}>'
        f"{described}{tiff_data}{planes}</Pixels></Image></OME>"
    )


def write_ome_tiff(
    path: Path,
    pixels: np.ndarray,
    *,
    xml: str | None = None,
    tile: tuple[int, int] | None = None,
    levels: int = 1,
    **options: Any,
) -> Path:
    """Write pixels of shape (t, c, z, y, x) as OME-TIFF.

    Parameters
    ----------
    xml : str, optional
        The document; by default `ome_xml` of the pixels.
    levels : int
        Resolution levels; coarser ones are SubIFDs.
    **options : object
        For tifffile: ``compression``, ``predictor``, ``rowsperstrip``, ``byteorder``, ``bigtiff``.
    """
    import tifffile

    opened = {name: options.pop(name) for name in ("byteorder", "bigtiff") if name in options}
    sizes = dict(zip("tczyx", pixels.shape, strict=True))
    document = xml or ome_xml(sizes, pixels.dtype.name)
    options = {"tile": tile, "photometric": "minisblack", "metadata": None, **options}
    planes = pixels.reshape(-1, *pixels.shape[-2:])
    with tifffile.TiffWriter(path, ome=False, **opened) as tiff:
        tiff.write(planes, description=document.encode(), subifds=levels - 1, **options)
        for level in range(1, levels):
            tiff.write(planes[:, :: 2**level, :: 2**level], subfiletype=1, **options)
    return path


def write_multi_series(path: Path, images: Sequence[np.ndarray], names: Sequence[str]) -> Path:
    """Write several images of shape (t, c, z, y, x) into one OME-TIFF, by tifffile's own metadata."""
    import tifffile

    with tifffile.TiffWriter(path, ome=True) as tiff:
        for pixels, name in zip(images, names, strict=True):
            tiff.write(pixels, metadata={"axes": "TCZYX", "Name": name}, photometric="minisblack")
    return path


def write_tiff_set(folder: Path, pixels: np.ndarray, *, companion: bool = False) -> list[Path]:
    """Write pixels of shape (t, c, z, y, x) as a set of OME-TIFFs, one for each time; return their paths.

    With `companion` the metadata are in one ``.companion.ome`` file, which comes first; TIFFs point to it.
    """
    paths = [folder / f"cells_t{t}.ome.tif" for t in range(len(pixels))]
    ids = [f"urn:uuid:{uuid.UUID(int=t + 1)}" for t in range(len(pixels))]
    per_file = pixels.shape[1] * pixels.shape[2]
    data = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="{per_file}"><UUID'
        f' FileName="{path.name}">{ids[t]}</UUID></TiffData>'
        for t, path in enumerate(paths)
    )
    xml = ome_xml(dict(zip("tczyx", pixels.shape, strict=True)), pixels.dtype.name, tiff_data=data)
    for path, own, frame in zip(paths, ids, pixels, strict=True):
        found = xml.replace("<OME ", f'<OME UUID="{own}" ', 1)
        if companion:
            pointer = f'<BinaryOnly MetadataFile="cells.companion.ome" UUID="{ids[0]}"/>'
            found = f'<OME xmlns="{NAMESPACE}" UUID="{own}">{pointer}</OME>'
        write_ome_tiff(path, frame[None], xml=found)
    if not companion:
        return paths
    (folder / "cells.companion.ome").write_text(xml, encoding="utf-8")
    return [folder / "cells.companion.ome", *paths]


def write_plate_tiff(path: Path, wells: Mapping[tuple[int, int], Sequence[np.ndarray]]) -> Path:
    """Write a plate as OME-TIFF: for each (row, column) the planes (y, x) of its fields."""
    import tifffile

    fields = [(place, field) for place, images in wells.items() for field in images]
    images = "".join(
        f'<Image ID="Image:{n}" Name="Field {n}"><Pixels ID="Pixels:{n}" DimensionOrder="XYZCT"'
        f' Type="{field.dtype.name}"'
        f' SizeX="{field.shape[1]}" SizeY="{field.shape[0]}" SizeZ="1" SizeC="1" SizeT="1">'
        f'<Channel ID="Channel:{n}:0"/><TiffData IFD="{n}" PlaneCount="1"/></Pixels></Image>'
        for n, (_, field) in enumerate(fields)
    )
    number = itertools.count()
    described = ""
    for (row, column), found in wells.items():
        samples = "".join(
            f'<WellSample ID="WellSample:{n}" Index="{n}"><ImageRef ID="Image:{n}"/></WellSample>'
            for n in itertools.islice(number, len(found))
        )
        described += f'<Well ID="Well:{row}:{column}" Row="{row}" Column="{column}">{samples}</Well>'
    xml = f'<OME xmlns="{NAMESPACE}"><Plate ID="Plate:0" Name="Screen 1">{described}</Plate>{images}</OME>'
    with tifffile.TiffWriter(path, ome=False) as tiff:
        for n, (_, field) in enumerate(fields):
            description = xml.encode() if n == 0 else None
            tiff.write(
                field, description=description, metadata=None, photometric="minisblack", contiguous=False
            )
    return path


# OME-Zarr


def write_ome_zarr(
    path: Path,
    pixels: np.ndarray,
    dims: str = "tczyx",
    *,
    version: str = "0.5",
    name: str = "cells",
    spacing: Mapping[str, float] | None = None,
    levels: int = 2,
    labels: Mapping[str, np.ndarray] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Path:
    """Write an OME-Zarr image as other programs do: unsharded, one chunk for each plane, by nearest levels.

    Parameters
    ----------
    version : str
        ``0.4`` (Zarr v2, zlib) or ``0.5`` (Zarr v3, gzip).
    spacing : mapping, optional
        By dim, in micrometer and second.
    labels : mapping, optional
        Label images by name, of the spatial dims of the image.
    attributes : mapping, optional
        Further attributes of the group, which nobody but their writer knows.
    """
    step = {"t": 1.5, "z": 0.5, "y": 0.25, "x": 0.25, **(spacing or {})}
    axes = [{"name": dim, **_axis(dim)} for dim in dims]
    datasets = []
    for level in range(levels):
        scale = [step.get(dim, 1.0) * (2**level if dim in "yx" else 1) for dim in dims]
        datasets.append(
            {"path": str(level), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
        )
        reduced = pixels[(..., slice(None, None, 2**level), slice(None, None, 2**level))]
        _write_array(path / str(level), reduced, dims, version)
    image: dict[str, Any] = {"name": name, "axes": axes, "datasets": datasets}
    if version == "0.4":
        image["version"] = version
    metadata: dict[str, Any] = {"multiscales": [image]}
    if "c" in dims:
        metadata["omero"] = {
            "channels": [_omero_channel(c, pixels.dtype) for c in range(pixels.shape[dims.index("c")])]
        }
    write_group(path, metadata, version, attributes)
    if labels:
        write_group(path / "labels", {"labels": [*labels]}, version)
        spatial = "".join(dim for dim in dims if dim in "zyx")
        for label, values in labels.items():
            write_ome_zarr(
                path / "labels" / label,
                values,
                spatial,
                version=version,
                name=label,
                spacing=spacing,
                levels=levels,
            )
            write_group(
                path / "labels" / label, {"image-label": {"source": {"image": "../../"}}}, version, merge=True
            )
    return path


def write_collection(path: Path, images: Sequence[np.ndarray], *, version: str = "0.5") -> Path:
    """Write images of shape (t, c, z, y, x) as bioformats2raw does: ``0``, ``1``, ..., OME-XML at the top."""
    write_group(path, {"bioformats2raw.layout": 3}, version)
    described = []
    for index, pixels in enumerate(images):
        write_ome_zarr(path / str(index), pixels, version=version, name="")
        xml = ome_xml(
            dict(zip("tczyx", pixels.shape, strict=True)), pixels.dtype.name, name=f"Position {index}"
        )
        found = xml[xml.index("<Image ") : xml.index("</OME>")].replace("<TiffData/>", "<MetadataOnly/>")
        described.append(found.replace(":0", f":{index}"))
    write_group(path / "OME", {"series": [str(index) for index in range(len(images))]}, version)
    (path / "OME" / "METADATA.ome.xml").write_text(
        f'<OME xmlns="{NAMESPACE}">{"".join(described)}</OME>', encoding="utf-8"
    )
    return path


def write_plate(path: Path, wells: Mapping[str, Sequence[np.ndarray]], *, version: str = "0.5") -> Path:
    """Write a plate: for each well (``A/1``) its fields, of shape (c, y, x)."""
    rows, columns = (sorted({well.split("/")[part] for well in wells}) for part in (0, 1))
    plate: dict[str, Any] = {
        "name": "Screen 1",
        "rows": [{"name": row} for row in rows],
        "columns": [{"name": column} for column in columns],
        "wells": [
            {
                "path": well,
                "rowIndex": rows.index(well.split("/")[0]),
                "columnIndex": columns.index(well.split("/")[1]),
            }
            for well in wells
        ],
        "field_count": max(len(fields) for fields in wells.values()),
        **({"version": version} if version == "0.4" else {}),
    }
    write_group(path, {"plate": plate}, version)
    for well, fields in wells.items():
        write_group(path / well.split("/")[0], {}, version)
        images = [{"path": str(number)} for number in range(len(fields))]
        write_group(
            path / well,
            {"well": {"images": images, **({"version": version} if version == "0.4" else {})}},
            version,
        )
        for number, pixels in enumerate(fields):
            write_ome_zarr(path / well / str(number), pixels, "cyx", version=version, name="", levels=1)
    return path


def write_group(
    path: Path,
    metadata: Mapping[str, Any],
    version: str,
    attributes: Mapping[str, Any] | None = None,
    *,
    merge: bool = False,
) -> None:
    """Write a Zarr group with NGFF metadata: below ``ome`` from 0.5 on, at the top before."""
    path.mkdir(parents=True, exist_ok=True)
    if version == "0.4":
        known = json.loads((path / ".zattrs").read_text()) if merge else {}
        (path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
        (path / ".zattrs").write_text(json.dumps({**known, **metadata, **(attributes or {})}))
        return
    document: dict[str, Any] = {"zarr_format": 3, "node_type": "group", "attributes": {}}
    if merge:
        document = json.loads((path / "zarr.json").read_text())
    known = document["attributes"].get("ome", {"version": version})
    if metadata:
        document["attributes"]["ome"] = {**known, **metadata}
    document["attributes"].update(attributes or {})
    (path / "zarr.json").write_text(json.dumps(document))


def _write_array(path: Path, pixels: np.ndarray, dims: str, version: str) -> None:
    """Write a Zarr array with one chunk for each plane."""
    chunks = (*[1] * (pixels.ndim - 2), *pixels.shape[-2:])
    path.mkdir(parents=True, exist_ok=True)
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    if version == "0.4":
        document: dict[str, Any] = {
            "zarr_format": 2, "shape": pixels.shape, "chunks": chunks, "dtype": little.dtype.str,
            "fill_value": 0,             "order": "C", "filters": None, "dimension_separator": "/",
            "compressor": {"id": "zlib", "level": 1},
        }  # fmt: skip
    else:
        document = {
            "zarr_format": 3, "node_type": "array", "shape": pixels.shape, "data_type": pixels.dtype.name,
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": False if pixels.dtype == bool else 0, "dimension_names": [*dims],
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "gzip", "configuration": {"level": 1}},
            ],
        }  # fmt: skip
    (path / (".zarray" if version == "0.4" else "zarr.json")).write_text(json.dumps(document))
    for index in np.ndindex(*pixels.shape[:-2]):
        key = "/".join(map(str, (*index, 0, 0)))
        target = path / key if version == "0.4" else path / "c" / key
        target.parent.mkdir(parents=True, exist_ok=True)
        raw = little[index].tobytes()
        target.write_bytes(zlib.compress(raw, 1) if version == "0.4" else gzip.compress(raw, 1))


def _axis(dim: str) -> dict[str, str]:
    if dim == "c":
        return {"type": "channel"}
    return {"type": "time", "unit": "second"} if dim == "t" else {"type": "space", "unit": "micrometer"}


def _omero_channel(index: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    top = float(np.iinfo(dtype).max) if dtype.kind in "iu" else 1.0
    window = {"min": 0.0, "max": top, "start": 0.0, "end": top / 2}
    return {"label": CHANNELS[index % 4], "color": COLORS[index % 4], "active": True, "window": window}


def _signed(color: str) -> int:
    value = int(color + "FF", 16)
    return value - 2**32 if value >= 2**31 else value
