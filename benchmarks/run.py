"""Runs the benchmarks, prints ratios beside what to reach, writes ``benchmarks/results/latest.json``.

Usage: python benchmarks/run.py [NAME ...] [--quick]
"""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
#: Subjects, in order; each is a module here with ``run(quick) -> dict`` of name to `Figure` fields.
SUBJECTS = ("startup", "queries", "imports", "reads")


def main() -> int:
    """Run what is asked for; exits 1 when a subject cannot run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SUBJECTS)}; all by default")
    parser.add_argument(
        "--quick", action="store_true", help="small data: shows that it runs, not how fast it is"
    )
    options = parser.parse_args()
    unknown = set(options.names) - set(SUBJECTS)
    if unknown:
        parser.error(f"no such subject: {', '.join(sorted(unknown))}")
    sys.path.insert(0, str(HERE))
    results: dict[str, Any] = {}
    for name in options.names or SUBJECTS:
        print(f"\n{name}", flush=True)
        results[name] = importlib.import_module(name).run(quick=options.quick)
        for key, figure in results[name].items():
            print(line(key, figure), flush=True)
    if not options.quick:
        save(results)
    return 0


def line(name: str, figure: dict[str, Any]) -> str:
    """Return one line: what, the figure, what to reach, and whether it is reached."""
    value, unit = figure["value"], figure.get("unit", "")
    reach = figure.get("reach")
    if reach is None:
        return f"  {name:<58} {value:>10.3g} {unit}"
    sign, bound = reach
    met = value <= bound if sign == "<=" else value >= bound
    return f"  {name:<58} {value:>10.3g} {unit:<6} {sign} {bound:<6g} {'reached' if met else 'FALLS SHORT'}"


def save(results: dict[str, Any]) -> None:
    """Merge `results` into the file of the latest figures, with what they were measured on."""
    path = HERE / "results" / "latest.json"
    path.parent.mkdir(exist_ok=True)
    known = json.loads(path.read_text())["subjects"] if path.exists() else {}
    machine = {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "system": platform.system(),
    }
    document = {"measured_at": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine}
    path.write_text(json.dumps({**document, "subjects": {**known, **results}}, indent=2) + "\n")
    print(f"\nwritten: {path.relative_to(HERE.parent)}")


if __name__ == "__main__":
    sys.exit(main())
