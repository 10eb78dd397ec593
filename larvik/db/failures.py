"""From errors of drivers to Larvik's: what happened, in words that hold on both databases.

Messages name no path, host or statement: they may travel to a client.
"""

from __future__ import annotations

import re
import sqlite3

from larvik.errors import (
    AlreadyExistsError,
    DataLossError,
    DeadlineError,
    InvalidArgumentError,
    LarvikError,
    PreconditionError,
    ResourceExhaustedError,
    UnavailableError,
)

#: Reason of an error after which the same unit of work may succeed.
RETRY = "TRANSACTION_RETRY"

_FULL = "The disk or the space of the database is full. Free some, then try again; nothing was half-written."
_SCHEMA = "The database lacks a table or column that a model has. Run `larvik migrate`, then try again."
_UNREACHABLE = "The database cannot be reached. Check that it runs and that its URL and password are right."


def translate(error: BaseException) -> LarvikError | None:
    """Return Larvik's error for one of a driver; None for what is nobody's fault but ours."""
    if isinstance(error, LarvikError):
        return error
    if isinstance(error, sqlite3.Error):
        return _sqlite(error)
    if hasattr(error, "sqlstate"):
        return _postgres(error)
    if isinstance(error, MemoryError):
        return ResourceExhaustedError("There is not enough memory for this query.", reason="MEMORY_EXHAUSTED")
    return None


def _sqlite(error: sqlite3.Error) -> LarvikError | None:
    name, text = getattr(error, "sqlite_errorname", "") or "", str(error)
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return UnavailableError(
            "The database is busy: another process holds its write lock. Try again.", reason="DATABASE_BUSY"
        )
    if name == "SQLITE_FULL":
        return ResourceExhaustedError(_FULL, reason="DISK_FULL")
    if name in {"SQLITE_CORRUPT", "SQLITE_NOTADB"} or name.startswith("SQLITE_CORRUPT_"):
        return DataLossError(
            "The database file is damaged or is not a Larvik database. Restore a backup.",
            reason="DATABASE_CORRUPT",
        )
    if name.startswith("SQLITE_READONLY"):
        return PreconditionError("The database is read-only for this process.", reason="DATABASE_READ_ONLY")
    if name.startswith(("SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM", "SQLITE_PROTOCOL")):
        return UnavailableError(
            "The database file cannot be opened, read or written. Check its folder and disk.",
            reason="DATABASE_UNREACHABLE",
        )
    if name == "SQLITE_NOMEM":
        return ResourceExhaustedError("The database ran out of memory.", reason="MEMORY_EXHAUSTED")
    if name == "SQLITE_TOOBIG":
        return InvalidArgumentError("A value is larger than the database takes.", reason="FIELD_INVALID")
    if name.startswith("SQLITE_CONSTRAINT"):
        columns = re.findall(r"[\w$]+\.([\w$]+)", text)
        return _constraint(name.rpartition("_")[2], columns)
    if text.startswith(("Expression tree is too large", "too many SQL variables", "parser stack overflow")):
        return InvalidArgumentError("The query has too many conditions.", reason="LIMIT_EXCEEDED")
    if text.startswith(("no such table", "no such column")):
        return PreconditionError(_SCHEMA, reason="SCHEMA_OUTDATED")
    return None


def _constraint(kind: str, columns: list[str]) -> LarvikError:
    shown = ", ".join(columns) or "a unique value"
    if kind in {"UNIQUE", "PRIMARYKEY"}:
        return AlreadyExistsError(f"Another row has the same {shown} already.", field=shown)
    if kind == "FOREIGNKEY":
        return PreconditionError(
            "Another row refers to this one, or it refers to a row that is gone.", reason="OBJECT_REFERENCED"
        )
    return InvalidArgumentError(f"A required value is missing: {shown}.", reason="FIELD_MISSING", field=shown)


def _postgres(error: BaseException) -> LarvikError | None:
    state: str = getattr(error, "sqlstate", None) or ""
    if state in {"40001", "40P01"}:
        return UnavailableError("Two transactions met; try again.", reason=RETRY)
    if state == "55P03":
        return UnavailableError("The database is busy: a lock is held. Try again.", reason="DATABASE_BUSY")
    if state == "53100":
        return ResourceExhaustedError(_FULL, reason="DISK_FULL")
    if state.startswith("53"):
        return ResourceExhaustedError(
            "The database has no more connections or memory. Try again later.", reason="DATABASE_EXHAUSTED"
        )
    if state == "57014":
        return DeadlineError(
            "The database cancelled a statement that took too long.", reason="CALL_TIMED_OUT"
        )
    if state in {"42P01", "42703"}:
        return PreconditionError(_SCHEMA, reason="SCHEMA_OUTDATED")
    if state.startswith("23"):
        return _postgres_constraint(error, state)
    if state == "25006":
        return PreconditionError("The database is read-only.", reason="DATABASE_READ_ONLY")
    if state.startswith("XX"):
        return DataLossError(
            "The database reports damaged data. Restore a backup.", reason="DATABASE_CORRUPT"
        )
    if state.startswith("22"):
        return InvalidArgumentError("A value is outside what the database takes.", reason="FIELD_INVALID")
    if state.startswith(("08", "57P", "28", "3D")) or (
        not state and type(error).__name__ == "OperationalError"
    ):
        return UnavailableError(_UNREACHABLE, reason="DATABASE_UNREACHABLE")
    return None


def _postgres_constraint(error: BaseException, state: str) -> LarvikError:
    kinds = {"23505": "UNIQUE", "23503": "FOREIGNKEY"}
    detail = getattr(getattr(error, "diag", None), "message_detail", None) or ""
    named = re.search(r"Key \(([^)]*)\)", detail)
    columns = named[1].replace('"', "").split(", ") if named else []
    column = getattr(getattr(error, "diag", None), "column_name", None)
    return _constraint(kinds.get(state, "NOTNULL"), columns or ([column] if column else []))
