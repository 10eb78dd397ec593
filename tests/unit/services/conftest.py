"""A Larvik on SQLite and a local disk, made of the real parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from larvik.array.spec import ArraySpec, Level, default_axis
from larvik.ids import new_id
from larvik.query.query import Record
from larvik.services.bundle import ServiceConfig, Services, open_services
from larvik.services.principal import Principal
from larvik.services.uploads import Begun
from larvik.storage.regions import regions


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with open_services(ServiceConfig(tmp_path / "data")) as opened:
        yield opened


@pytest.fixture
def me(services: Services) -> Principal:
    return services.identity.local()


def plain_spec(array: np.ndarray, dims: str = "tczyx") -> ArraySpec:
    """Return the description of `array` before a grid is chosen."""
    dims = dims[-array.ndim :]
    level = Level("0", array.shape, array.shape, array.shape, (1.0,) * array.ndim, (0.0,) * array.ndim)
    return ArraySpec(tuple(default_axis(dim) for dim in dims), array.dtype.name, (level,))


class Maker:
    """Makes arrays through upload sessions."""

    def __init__(self, services: Services, principal: Principal) -> None:
        self.services = services
        self.principal = principal

    def begin(
        self,
        array: np.ndarray,
        rows: Mapping[str, Sequence[Mapping[str, object]]] | None = None,
        **values: Any,
    ) -> Begun:
        columns = {"id": new_id(), "name": "image", **values}
        return self.services.uploads.begin(
            self.principal, "Representation", columns, plain_spec(array), rows or {}
        )

    def write(self, begun: Begun, array: np.ndarray, *, leave_out: int = 0) -> None:
        level = begun.spec.levels[0]
        shards = list(regions(level.shape, level.shards))
        for region in shards[: len(shards) - leave_out]:
            start = tuple(part.start for part in region)
            self.services.uploads.write(self.principal, begun.id, start, array[region])

    def store(self, array: np.ndarray, **values: Any) -> Record:
        begun = self.begin(array, **values)
        self.write(begun, array)
        return self.services.uploads.commit(self.principal, begun.id)


@pytest.fixture
def maker(services: Services, me: Principal) -> Maker:
    return Maker(services, me)


@pytest.fixture
def pixels() -> np.ndarray:
    """A stack whose finest level has several shards and whose pyramid has two levels."""
    return np.random.default_rng(3).integers(0, 4000, (2, 2, 3, 1100, 600), dtype=np.uint16)


@pytest.fixture
def small() -> np.ndarray:
    return np.arange(2 * 3 * 20 * 30, dtype=np.uint16).reshape(2, 3, 20, 30)
