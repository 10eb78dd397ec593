"""What an import is told, and what it says in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from larvik.errors import InvalidArgumentError, LarvikError, suggestion
from larvik.query.query import Record

Progress = Callable[[int, int], object]
Cancelled = Callable[[], bool]


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """How files are imported.

    Attributes
    ----------
    sample, experiment : str or None
        Names; rows that are missing are made with the first image. With an experiment alone, each
        file becomes a sample of its own.
    sample_id, experiment_id : str or None
        Ids of stored rows, instead of names.
    series : tuple of int or None
        Which series of a file, counted from 0; None for all.
    in_place : bool
        Register OME-Zarr where it is, copying nothing.
    again : bool
        Import anew what was imported before.
    """

    sample: str | None = None
    experiment: str | None = None
    sample_id: str | None = None
    experiment_id: str | None = None
    series: tuple[int, ...] | None = None
    in_place: bool = False
    again: bool = False

    @classmethod
    def of(cls, values: Mapping[str, object]) -> ImportOptions:
        """Return the options that `values` are, as a caller over the network gave them.

        Raises
        ------
        InvalidArgumentError
            ``ARGUMENT_INVALID``; names the option.
        """
        names = [item.name for item in fields(cls)]
        checked: dict[str, Any] = {}
        for name, value in values.items():
            if name not in names:
                raise _invalid(name[:80], f"is no option of an import. {suggestion(name[:80], names)}")
            if value is not None:
                checked[name] = _checked(name, value)
        return cls(**checked)

    def to_dict(self) -> dict[str, object]:
        """Return the options that are set, for `of`."""
        given = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: value for name, value in given.items() if value is not None and value is not False}


@dataclass(frozen=True, slots=True)
class Failure:
    """Why one path was not imported."""

    path: str
    reason: str
    message: str

    @classmethod
    def of(cls, path: str, error: LarvikError) -> Failure:
        """Return the failure that `error` means for `path`."""
        return cls(path, error.reason, error.message)


@dataclass(slots=True)
class ImportOutcome:
    """What became of some files: rows that were made or found, and why others are missing."""

    records: list[Record] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def _checked(name: str, value: object) -> object:
    if name in ("in_place", "again"):
        if not isinstance(value, bool):
            raise _invalid(name, "takes true or false")
        return value
    if name == "series":
        numbers = (value,) if isinstance(value, int) else value
        if not isinstance(numbers, tuple | list) or any(
            type(item) is not int or item < 0 for item in numbers
        ):
            raise _invalid(name, "takes numbers of series, from 0")
        return tuple(numbers)
    if not isinstance(value, str) or not 0 < len(value) <= 400:
        raise _invalid(name, "takes a text of 1 to 400 characters")
    return value


def _invalid(name: str, problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"{name} {problem}.", reason="ARGUMENT_INVALID", field=name)
