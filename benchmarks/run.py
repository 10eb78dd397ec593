"""Runs the benchmarks, prints ratios beside what to reach, writes the figures and the report.

The figures go to ``benchmarks/results/latest.json``, tables and plot to ``docs/performance.md``.

Usage: python benchmarks/run.py [NAME ...] [--quick] [--no-peers]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import report
from figures import line
from peers import environment

HERE = Path(__file__).parent
#: Subjects, in order; each is a module here with ``run(quick=...)``, which returns figures by name.
SUBJECTS = (
    "startup", "queries", "imports",
    "limits", "reads", "crops", "streams", "pushdown", "clients", "writes", "shaped", "s3",
)  # fmt: skip


def main() -> int:
    """Run what is asked for; exits 1 when a subject cannot run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small data: shows that it runs, not how fast it is"
    )
    parser.add_argument("--no-peers", action="store_true", help="leave out Tiled, HSDS and xpublish")
    options = parser.parse_args()
    unknown = set(options.names) - set(SUBJECTS)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or servers would outlive the run
    if options.no_peers:
        environment.leave_out()
    results: dict[str, Any] = {}
    for name in options.names or SUBJECTS:
        print(f"\n{name}", flush=True)
        results[name] = importlib.import_module(name).run(quick=options.quick)
        for key, figure in results[name].items():
            print(line(key, figure), flush=True)
        if not options.quick:
            save(results)
            report.write()
    if options.quick:
        report.rehearse(results)
    return 0


def save(results: dict[str, Any]) -> None:
    """Merge `results` into the file of the latest figures, with what they were measured on."""
    path = HERE / "results" / "latest.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text())["subjects"] if path.exists() else {}
    machine = {
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "processor": platform.machine(),
        "system": platform.system(),
    }
    document = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}
    path.write_text(json.dumps({**document, "subjects": {**known, **results}}, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
