"""What takes how many bytes: arrays and tables, by model and experiment."""

from __future__ import annotations

from dataclasses import dataclass

from larvik.db.engine import Database
from larvik.db.whole_rows import bytes_by, stored_columns
from larvik.services.principal import READ, Principal


@dataclass(frozen=True, slots=True)
class Usage:
    """Arrays or tables of one model in one experiment, trash included.

    ``experiment_id`` and ``experiment`` (its name) are None for those that belong to none.
    """

    model: str
    experiment_id: str | None
    experiment: str | None
    count: int
    size_bytes: int


def usage(principal: Principal, database: Database) -> list[Usage]:
    """Return what is stored, the largest first; one statement for each model.

    Sources that were registered in place take no bytes here.
    """
    principal.require(READ)
    names = {row["id"]: row["name"] for row in stored_columns(database, "Experiment", ("name",))}
    found = []
    for spec in database.registry:
        column = "scope_id" if spec.is_array else "experiment_id" if spec.name == "Table" else None
        if column is not None:
            for experiment, (count, size) in bytes_by(database, spec.name, column).items():
                found.append(Usage(spec.name, experiment, names.get(experiment or ""), count, size))
    return sorted(found, key=lambda item: -item.size_bytes)
