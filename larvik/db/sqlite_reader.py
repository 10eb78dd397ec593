"""A process that reads SQLite through ADBC, and streams Arrow to its parent over a pipe.

Run by `larvik.db.bulk` as a script. It is a process of its own because the ADBC driver brings its
own copy of SQLite: two copies in one process do not see each other's locks (POSIX locks belong to
the process), and the second to close a file takes the first one's write-ahead log away.

Protocol: each line of standard input is a request (JSON: path, sql, parameters, batch_rows); the
answer is a line of JSON, ``{}`` or ``{"error": ...}``, then an Arrow IPC stream, then another such
line. The end of the input ends the process.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any
from urllib.parse import quote

_MAPPED_BYTES = 2**35


def main() -> None:
    """Answer requests until the input ends."""
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    first = json.loads(requests.readline())
    sys.path[:] = first["sys_path"]
    for line in requests:
        try:
            _answer(json.loads(line), answers)
        except BrokenPipeError:
            return


def _answer(request: dict[str, Any], answers: IO[bytes]) -> None:
    import pyarrow as pa

    started = False
    try:
        with _reader(request) as reader:
            _line(answers, {})
            started = True
            with pa.ipc.new_stream(answers, reader.schema) as stream:
                for batch in reader:
                    stream.write_batch(batch)
    except BrokenPipeError:
        raise
    except Exception as error:  # the parent turns it into an error of ours
        if started:
            answers.flush()
        _line(answers, {"error": str(error)[:500], "kind": type(error).__name__})
        return
    _line(answers, {})


@contextmanager
def _reader(request: dict[str, Any]) -> Iterator[Any]:
    import adbc_driver_sqlite
    import pyarrow as pa
    from adbc_driver_manager import _lib as adbc

    uri = f"file:{quote(request['path'])}?mode=ro"
    with ExitStack() as stack:
        database = stack.enter_context(adbc.AdbcDatabase(driver=adbc_driver_sqlite._driver_path(), uri=uri))
        connection = stack.enter_context(adbc.AdbcConnection(database))
        with adbc.AdbcStatement(connection) as pragma:
            # A fifth faster; a file that shrinks meanwhile ends this process, not its parent.
            pragma.set_sql_query(f"PRAGMA mmap_size={_MAPPED_BYTES}")
            pragma.execute_update()
        statement = stack.enter_context(adbc.AdbcStatement(connection))
        statement.set_sql_query(request["sql"])
        statement.set_options(**{"adbc.sqlite.query.batch_rows": str(request["batch_rows"])})
        if request["parameters"]:
            values = [_value(item) for item in request["parameters"]]
            names = [str(index) for index in range(len(values))]
            row = pa.RecordBatch.from_arrays([pa.array([value]) for value in values], names=names)
            array, schema = adbc.ArrowArrayHandle(), adbc.ArrowSchemaHandle()
            row._export_to_c(array.address, schema.address)
            statement.bind(array, schema)
        handle, _ = statement.execute_query()
        yield pa.RecordBatchReader._import_from_c(handle.address)


def _value(item: Any) -> Any:
    return base64.b64decode(item["bytes"]) if isinstance(item, dict) else item


def _line(answers: IO[bytes], value: dict[str, Any]) -> None:
    answers.write(json.dumps(value).encode() + b"\n")
    answers.flush()


if __name__ == "__main__":
    main()
