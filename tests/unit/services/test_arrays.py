from __future__ import annotations

import numpy as np
import pytest

from larvik.array.expression import Source
from larvik.array.record import record as record_operation
from larvik.errors import (
    ConflictError,
    InvalidArgumentError,
    LarvikError,
    NotFoundError,
    PermissionDeniedError,
)
from larvik.query.query import Record
from larvik.services.arrays import KEPT_READERS
from larvik.services.bundle import Services
from larvik.services.principal import Principal


def source_of(services: Services, record: Record, level: int = 0, **claims: object) -> Source:
    stored = services.arrays.stored(record)
    there = stored.spec.levels[level]
    facts = {
        "array_id": stored.id, "version": stored.version, "level": level, "shape": there.shape,
        "dtype": stored.spec.dtype, "chunks": there.chunks, **claims,
    }  # fmt: skip
    return Source(**facts)  # type: ignore[arg-type]


def test_an_expression_is_read_block_by_block(services, maker, me, pixels) -> None:
    expression = record_operation(
        "max", [source_of(services, maker.store(pixels))], {"axes": (2,), "keepdims": False}
    )
    out = np.zeros(expression.shape, expression.dtype)
    for start, block in services.arrays.read(me, expression):
        out[tuple(slice(s, s + size) for s, size in zip(start, block.shape, strict=True))] = block
    np.testing.assert_array_equal(out, pixels.max(axis=2))


def test_a_plan_tells_what_would_be_read(services, maker, me, pixels) -> None:
    plan = services.arrays.plan(me, source_of(services, maker.store(pixels)))
    assert plan.bytes_result == pixels.nbytes
    assert plan.bytes_moved == 0


@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"shape": (1, 1, 1, 1, 1)}, InvalidArgumentError),
        ({"dtype": "int16"}, InvalidArgumentError),
        ({"chunks": (1, 1, 1, 1, 1)}, InvalidArgumentError),
        ({"level": 7}, InvalidArgumentError),
        ({"version": 2}, ConflictError),
    ],
)
def test_what_a_source_claims_is_checked(services, maker, me, pixels, claims, error) -> None:
    source = source_of(services, maker.store(pixels))
    facts = {
        name: getattr(source, name) for name in ("array_id", "version", "level", "shape", "dtype", "chunks")
    }
    with pytest.raises(error):
        services.arrays.locate(me, [Source(**{**facts, **claims})])


@pytest.mark.parametrize("array_id", ["01890000-0000-7000-8000-000000000000", "no id", "../../etc"])
def test_unknown_arrays_are_not_found(services, me, array_id) -> None:
    with pytest.raises(LarvikError) as caught:
        services.arrays.record(me, array_id)
    assert caught.value.reason in ("ARRAY_NOT_FOUND", "ID_INVALID")


def test_an_array_in_the_trash_is_not_read(services, maker, me, small) -> None:
    record = maker.store(small)
    source = source_of(services, record)
    services.arrays.locate(me, [source])
    services.catalog.delete(me, "Representation", source.array_id)
    with pytest.raises(NotFoundError):
        services.arrays.locate(me, [source])


def test_reading_needs_the_scope(services, maker, me, small) -> None:
    source = source_of(services, maker.store(small))
    with pytest.raises(PermissionDeniedError):
        services.arrays.locate(Principal(me.subject_id, "x", "user", frozenset()), [source])


def test_a_source_beside_the_located_ones_is_refused(services, maker, me, small) -> None:
    one, other = (source_of(services, maker.store(small)) for _ in range(2))
    open_source = services.arrays.opener(services.arrays.locate(me, [one]))
    open_source(one)
    with pytest.raises(NotFoundError):
        open_source(other)


def test_opened_readers_are_kept_within_bounds(services, maker, me, small) -> None:
    stored = services.arrays.stored(maker.store(small))
    assert services.arrays.reader(stored, 0) is services.arrays.reader(stored, 0)
    for _ in range(3):
        services.arrays.reader(services.arrays.stored(maker.store(small)), 0)
    assert len(services.arrays._readers) == 4 <= KEPT_READERS
