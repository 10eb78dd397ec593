"""What every test can ask for: real servers, judges of formats, free ports.

The fixtures live in tests/fixtures, one subject a file. Everything starts when the first test asks for it.
"""

from __future__ import annotations

import os
import signal
import tempfile

import pytest
from hypothesis import HealthCheck, settings

pytest_plugins = [
    "fixtures.network",
    "fixtures.postgres",
    "fixtures.databases",
    "fixtures.s3",
    "fixtures.judges",
]

# The cores are shared with servers and other tests, so time limits of single examples would only tell of
# load. In CI the examples are the same on every run; at home each run tries others, and failures are kept.
_SLOW_IS_FINE = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "print_blob": True}
settings.register_profile("default", max_examples=50, **_SLOW_IS_FINE)
settings.register_profile("ci", max_examples=50, derandomize=True, **_SLOW_IS_FINE)
settings.register_profile("soak", max_examples=5000, **_SLOW_IS_FINE)
settings.load_profile("ci" if os.environ.get("CI") else "default")


def pytest_configure(config: pytest.Config) -> None:
    """Keep the settings and profiles of whoever runs the tests from them and from what they start."""
    # A shell that starts a job in the background lets it ignore Ctrl-C, and every child inherits that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("LARVIK_")]:
        if not name.startswith("LARVIK_TEST_"):
            del os.environ[name]
    home = tempfile.TemporaryDirectory(prefix="larvik-config-")
    os.environ["XDG_CONFIG_HOME"] = home.name
    config.add_cleanup(home.cleanup)
