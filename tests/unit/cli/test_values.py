"""Values of the command line."""

from __future__ import annotations

from datetime import timedelta

import pytest

from larvik.cli.values import parse_duration
from larvik.errors import InvalidArgumentError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("45s", 45), ("30m", 1800), ("24h", 86_400), ("1.5D", 129_600), (" 7 ", 7)],
)
def test_a_time_is_a_number_and_its_unit(text, seconds):
    assert parse_duration("--grace", text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "-1", "m", "1w", "1h30m", "nan", "1e9", "١h", "999999999d", "9" * 1000])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidArgumentError, match="--grace takes a time such as") as caught:
        parse_duration("--grace", text)
    assert caught.value.reason == "FIELD_INVALID"
