"""The contract names every reason that the code gives, and gives every reason that it names."""

from __future__ import annotations

import re
from pathlib import Path

from larvik.proto.v1 import reason_pb2

ROOT = Path(__file__).resolve().parents[3]
FOLDERS = ("larvik", "server/larvik_server", "client/python/larvik_client")
REASON = re.compile(
    r'(?:default_reason\s*=|\breason=)\s*"([A-Z][A-Z_]+)"|"([A-Z][A-Z_]+)" if [^\n]* else "([A-Z][A-Z_]+)"'
)
PREFIX = "ERROR_REASON_"


def reasons_of_the_code() -> set[str]:
    found: set[str] = set()
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            if "proto" not in file.relative_to(ROOT).parts:
                for line in file.read_text().splitlines():
                    if "reason" in line:
                        found.update(name for match in REASON.findall(line) for name in match if name)
    return found


def reasons_of_the_contract() -> set[str]:
    names = {value.name.removeprefix(PREFIX) for value in reason_pb2.ErrorReason.DESCRIPTOR.values}
    return names - {"UNSPECIFIED"}


def test_every_reason_of_the_code_is_in_reason_proto():
    missing = reasons_of_the_code() - reasons_of_the_contract()
    assert not missing, f"append to reason.proto, then run `make proto`: {sorted(missing)}"


def test_reason_proto_names_no_reason_that_nothing_gives():
    given = reasons_of_the_code()
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*.py"):
            if "proto" not in file.relative_to(ROOT).parts:
                given.update(re.findall(r'"([A-Z]+(?:_[A-Z]+)*)"', file.read_text()))
    left_over = reasons_of_the_contract() - given
    assert not left_over, f"nothing gives these: {sorted(left_over)}"
