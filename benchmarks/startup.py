"""Start-up: importing Larvik, connecting to a folder, the first array, the server.

Every round is a fresh interpreter; figures are medians, in seconds, of the work named alone
(the interpreter's own start is not part of it).
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORT = "import time; t = time.perf_counter(); import larvik; print(time.perf_counter() - t)"
PREPARE = """
import sys, numpy, larvik
with larvik.connect(sys.argv[1]):
    larvik.Representation.objects.from_xarray(numpy.zeros((1, 1, 4, 64, 64), "uint16"), name="first")
"""
CONNECT = """
import sys, time, larvik
start = time.perf_counter()
connection = larvik.connect(sys.argv[1])
connected = time.perf_counter()
larvik.Representation.objects.first().array
print(connected - start, time.perf_counter() - connected)
"""


def run(*, quick: bool = False) -> dict[str, Any]:
    """Return medians of fresh interpreters."""
    rounds = 3 if quick else 7
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder) / "data")
        _python(PREPARE, data)
        imports, connects, arrays, serves = [], [], [], []
        for _ in range(rounds):
            imports.append(float(_python(IMPORT)))
            connect, array = map(float, _python(CONNECT, data).split())
            connects.append(connect)
            arrays.append(array)
            serves.append(_serve_seconds(data))
    return {
        "import larvik": {"value": statistics.median(imports), "unit": "s", "reach": ("<=", 0.1)},
        "embedded connect": {"value": statistics.median(connects), "unit": "s", "reach": ("<=", 0.4)},
        "first rep.array after it": {"value": statistics.median(arrays), "unit": "s", "reach": ("<=", 0.6)},
        "larvik serve to ready": {"value": statistics.median(serves), "unit": "s", "reach": ("<=", 1.0)},
    }


def _python(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _serve_seconds(data: str) -> float:
    import time

    from larvik.testing.server import larvik_server

    start = time.perf_counter()
    with larvik_server(data):
        return time.perf_counter() - start
