"""How a new array is laid out: NGFF image or plain group, chunks, shards and pyramid levels.

``docs/decisions/storage-layout.md`` gives the reasons and the measurements.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypeGuard, cast

from larvik.array.channel_names import unique_names
from larvik.array.spec import DTYPES, ArraySpec, Axis, Level, itemsize
from larvik.errors import InvalidArgumentError
from larvik.storage.zarr_metadata import MAX_ARRAY_BYTES, MAX_RANK

#: Raw bytes of an inner chunk, the unit of decoding: near the first, at most the second.
MIN_CHUNK_BYTES, MAX_CHUNK_BYTES = 512 << 10, 1 << 20
#: Raw bytes of a shard, the unit of storage.
MIN_SHARD_BYTES, MAX_SHARD_BYTES = 16 << 20, 32 << 20
#: Side of an inner chunk in the plane that chunks are made around.
CHUNK_SIDE = 512
#: Largest side of the coarsest level, in pixels: it fits a screen.
SCREEN_SIDE = 1024

#: The dims of an NGFF image, in the order that NGFF asks for.
NGFF_DIMS = "tczyx"
#: Most shards of a level: 16 TiB and more in all, and few enough to look for each at the commit.
MAX_SHARDS = 1 << 20
#: Path of the only level of a plain group.
PLAIN_PATH = "data"


def plan_layout(
    dims: Sequence[str],
    shape: Sequence[int],
    dtype: str,
    axes: Sequence[Axis],
    spacing: Sequence[float],
    origin: Sequence[float],
    coordinates: Mapping[str, Sequence[Any]] | None = None,
    channel_names: Sequence[str] = (),
    *,
    kind: str = "intensity",
    pyramid: bool = True,
) -> ArraySpec:
    """Return the spec of a new array: format, levels, chunks and shards.

    Parameters
    ----------
    dims, shape, axes : sequence
        One entry per dim, in array order; `axes` in the same order as `dims`.
    dtype : str
        NumPy name, one of `DTYPES`.
    spacing, origin : sequence of float
        Distance between samples and coordinate of sample 0, per dim, in the axis unit.
    coordinates : mapping, optional
        Values of dims that are not ``origin + i * spacing``, as many as the dim has elements.
    channel_names : sequence of str
        Along ``c``; missing and duplicate names become unique.
    kind : str
        ``intensity``, ``label`` or ``mask``: levels are means of intensities, nearest of the others.
    pyramid : bool
        Whether to plan levels below the finest one.

    Returns
    -------
    ArraySpec
        Format ``ome-zarr`` when the dims are 2-5 of ``t c z y x`` in that order and end in ``y x``,
        else ``zarr`` with one level.

    Raises
    ------
    InvalidArgumentError
        ``SHAPE_INVALID``, ``DTYPE_UNSUPPORTED``, ``AXES_MISMATCH`` or ``COORDINATES_INVALID``.
    """
    dims, shape = tuple(dims), tuple(int(size) for size in shape)
    _check(dims, shape, dtype, axes, spacing, origin, coordinates or {})
    chunks = chunk_shape(dims, shape, dtype)
    shards = shard_shape(dims, shape, chunks, dtype)
    if math.prod(-(-size // extent) for size, extent in zip(shape, shards, strict=True)) > MAX_SHARDS:
        raise _invalid(f"{shape} takes more than {MAX_SHARDS} shards; store parts", "shape", "SHAPE_INVALID")
    ngff = is_ngff(dims)
    level = Level(
        "0" if ngff else PLAIN_PATH,
        shape,
        chunks,
        shards,
        tuple(float(value) for value in spacing),
        tuple(float(value) for value in origin),
    )
    levels = [level]
    while pyramid and ngff and max(levels[-1].shape[-2:]) > SCREEN_SIDE:
        levels.append(next_level(levels[-1], dims, dtype, averages=averages(kind, dtype)))
    size = shape[dims.index("c")] if "c" in dims else 0
    return ArraySpec(
        axes=tuple(axes),
        dtype=dtype,
        levels=tuple(levels),
        coordinates={name: tuple(values) for name, values in (coordinates or {}).items() if name != "c"},
        channel_names=unique_names(channel_names, size),
        format="ome-zarr" if ngff else "zarr",
    )


def is_ngff(dims: Sequence[str]) -> bool:
    """Tell whether an array with these dims can be an NGFF image."""
    ordered = [dim for dim in NGFF_DIMS if dim in dims]
    return list(dims) == ordered and tuple(dims[-2:]) == ("y", "x")


def averages(kind: str, dtype: str) -> bool:
    """Tell whether coarser levels are means; those of labels, masks and booleans are nearest values."""
    return kind == "intensity" and dtype != "bool"


def next_level(level: Level, dims: Sequence[str], dtype: str, *, averages: bool) -> Level:
    """Return the level that halves y and x of `level`; z stays, so that every plane has each level.

    A mean of two pixels lies half a spacing further, the first of two pixels where it was.
    """
    halved = [dim in ("y", "x") for dim in dims]
    shape = tuple(-(-size // 2) if half else size for size, half in zip(level.shape, halved, strict=True))
    chunks = chunk_shape(dims, shape, dtype)
    shift = 0.5 if averages else 0.0
    return replace(
        level,
        path=str(int(level.path) + 1),
        shape=shape,
        chunks=chunks,
        shards=shard_shape(dims, shape, chunks, dtype),
        spacing=tuple(s * 2 if half else s for s, half in zip(level.spacing, halved, strict=True)),
        origin=tuple(
            o + shift * s if half else o
            for o, s, half in zip(level.origin, level.spacing, halved, strict=True)
        ),
    )


def chunk_shape(dims: Sequence[str], shape: Sequence[int], dtype: str) -> tuple[int, ...]:
    """Return the inner chunk: a square of the plane y, x, of 0.5-1 MiB where the array has as much.

    Planes are cut into equal parts near `CHUNK_SIDE`, so that chunks at the edge are nearly full. A chunk
    has one channel; it takes in further z, then t and other dims, only where planes are small.
    """
    size = itemsize(dtype)
    chunk = [1] * len(shape)
    plane, outer = _plane(dims), _outer(dims)
    for dim in plane:
        chunk[dim] = _equal_part(shape[dim], CHUNK_SIDE, math.isqrt(MAX_CHUNK_BYTES // size))
    for dim in (*outer, *plane):
        wanted = -(-MIN_CHUNK_BYTES // (math.prod(chunk) * size))
        if wanted > 1:
            chunk[dim] = _equal_part(shape[dim], chunk[dim] * wanted, chunk[dim] * wanted)
    return tuple(chunk)


def shard_shape(
    dims: Sequence[str], shape: Sequence[int], chunks: Sequence[int], dtype: str
) -> tuple[int, ...]:
    """Return the shard: whole chunks, 16-32 MiB where the array has as much, one channel.

    Grows along x, y, z, then t and other dims, so that whole planes are written and read together. Equal
    to the chunk where one chunk holds all there is: such arrays are not sharded.
    """
    shard = list(chunks)
    for dim in (*_plane(dims), *_outer(dims)):
        raw = math.prod(shard) * itemsize(dtype)
        if raw >= MIN_SHARD_BYTES:
            break
        count = -(-shape[dim] // chunks[dim])
        objects = -(-count // min(count, MAX_SHARD_BYTES // raw))
        shard[dim] = chunks[dim] * -(-count // objects)
    return tuple(shard)


def _plane(dims: Sequence[str]) -> list[int]:
    """Return the dims of the plane, fastest first: x and y, or the last two."""
    named = [dims.index(dim) for dim in ("x", "y") if dim in dims]
    return named if len(named) == 2 else list(range(len(dims)))[::-1][:2]


def _outer(dims: Sequence[str]) -> list[int]:
    """Return the other dims but c, in the order in which chunks and shards grow: z, t, then the rest."""
    rest = [dim for dim in range(len(dims)) if dim not in _plane(dims) and dims[dim] != "c"]
    order = {"z": 0, "t": 1}
    return sorted(rest, key=lambda dim: (order.get(dims[dim], 2), -dim))


def _equal_part(size: int, wanted: int, most: int) -> int:
    """Return the extent that cuts `size` into equal parts near `wanted`, at most `most`, in steps of 16."""
    count = max(1, round(size / wanted))
    while True:
        part = -(-size // count)
        part = part if part < 64 or count == 1 else -(-part // 16) * 16
        if part <= most:
            return part
        count += 1


def _check(
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    dtype: str,
    axes: Sequence[Axis],
    spacing: Sequence[float],
    origin: Sequence[float],
    coordinates: Mapping[str, Sequence[Any]],
) -> None:
    if dtype not in DTYPES:
        raise _invalid(f"{dtype!r} is not one of {', '.join(DTYPES)}", "dtype", "DTYPE_UNSUPPORTED")
    if not dims or len(dims) > MAX_RANK or len(set(dims)) < len(dims) or not all(map(_is_dim, dims)):
        raise _invalid(
            f"{dims} is not 1 to {MAX_RANK} different names, fit to be names of folders and none of them"
            f" {PLAIN_PATH!r}",
            "dims",
            "AXES_MISMATCH",
        )
    if tuple(axis.name for axis in axes) != dims:
        raise _invalid("the names of the axes are not the dims", "axes", "AXES_MISMATCH")
    if not len(dims) == len(shape) == len(spacing) == len(origin):
        raise _invalid("shape, spacing and origin need one entry per dim", "shape", "AXES_MISMATCH")
    if min(shape) < 1 or math.prod(shape) * itemsize(dtype) > MAX_ARRAY_BYTES:
        raise _invalid(f"{shape} is not made of integers >= 1, below 2**62 bytes", "shape", "SHAPE_INVALID")
    if not all(math.isfinite(value) and value > 0 for value in spacing):
        raise _invalid("every spacing is a finite number above 0", "spacing", "COORDINATES_INVALID")
    if not all(map(math.isfinite, origin)):
        raise _invalid("every origin is a finite number", "origin", "COORDINATES_INVALID")
    for name, values in coordinates.items():
        if name not in dims or len(values) != shape[dims.index(name)]:
            raise _invalid(
                f"{name!r} is not a dim with {len(values)} elements", "coordinates", "COORDINATES_INVALID"
            )
        if not (all(map(_is_number, values)) or all(map(_is_text, values))):
            raise _invalid(
                f"those of {name!r} are not finite numbers or texts", "coordinates", "COORDINATES_INVALID"
            )


def _is_dim(name: object) -> bool:
    """Tell whether a dim may have this name: its coordinates are an array of this name in the group."""
    return (
        _is_text(name)
        and 0 < len(name) <= 100
        and name.isprintable()
        and name[0] != "."
        and not set(name) & set("/\\")
        and name not in (PLAIN_PATH, "zarr.json")
    )


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.encode("utf-8", "replace").decode() == value


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and -1e300 < cast("float", value) < 1e300  # refuses NaN too


def _invalid(problem: str, field: str, reason: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{field}: {problem}.", reason=reason, field=field)
