"""The types of the Python face, as mypy sees them."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_mypy_knows_rows_queries_and_mistakes() -> None:
    """Each ignore in the file names an error that must be there: an unused one fails."""
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--no-error-summary"]
    checked = subprocess.run(
        [*command, str(HERE / "face.py")],
        capture_output=True,
        text=True,
        cwd=HERE.parents[1],
    )
    assert (checked.returncode, checked.stdout) == (0, "")
