"""The reference of every model, as Markdown: ``python -m larvik.models.docs > docs/models.md``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from larvik.models import registry
from larvik.schema import FieldSpec, ModelSpec, OnDelete, RelationSpec

INTRODUCTION = """\
# Models

Every model, field and relation, generated from the classes in `larvik/models` by
`python -m larvik.models.docs` (a test compares). This page is the contract: the same names are the
columns of SQL tables, the columns of Arrow tables, the keys of records on the wire and the
attributes in Python.

| type | Python | SQLite | PostgreSQL | Arrow |
| --- | --- | --- | --- | --- |
| string | `str` | TEXT | text, collation C | utf8 |
| int64 | `int` | INTEGER | bigint | int64 |
| float64 | `float`, finite | REAL | double precision | float64 |
| bool | `bool` | INTEGER 0, 1 | boolean | bool |
| timestamp | aware `datetime`, UTC | INTEGER, microseconds | timestamptz | timestamp[us, UTC] |
| uuid | `str`, canonical lower case | TEXT | uuid | utf8 |
| json | what JSON holds | TEXT, canonical | json, canonical | utf8 |
| binary | `bytes` | BLOB | bytea | binary |
| int64_list, string_list | `tuple` | TEXT, JSON | json | list |

Relations are columns called `<name>_id`. *On delete* says what happens when the row that is
pointed at is purged; going to the trash changes nothing else. Fields marked *set by Larvik* cannot
be assigned; *fixed* ones only at creation. Times are UTC with microseconds; text is Unicode
without NUL; ids are UUIDv7, made by whoever creates the row, so creating is idempotent.
"""


def render() -> str:
    """Return the whole page."""
    models = sorted(registry, key=lambda spec: (spec.is_part, spec.name.casefold()))
    models = [spec for spec in models if spec.package == "larvik"]
    sections = [INTRODUCTION, *(_section(spec) for spec in models)]
    return "\n".join(sections)


def _section(spec: ModelSpec) -> str:
    kind = ""
    if spec.is_array:
        kind = " Rows own an array."
    elif spec.part_of:
        kind = f" A part of any object, reached as `{spec.part_of}`; removed for good when deleted."
    lines = [f"## {spec.name}", "", f"{spec.doc}{kind} Table `{spec.table}`.", ""]
    lines += ["| field | type | unit | meaning |", "| --- | --- | --- | --- |"]
    lines += [_field_line(field) for field in spec.fields]
    if spec.relations:
        lines += [
            "",
            "| relation | to | null | on delete | reverse | meaning |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_relation_line(relation) for relation in spec.relations]
    reverses = [item for item in registry.reverses(spec.name).values() if not item.generic]
    if reverses:
        names = ", ".join(f"`{item.name}` ({item.model})" for item in reverses)
        lines += ["", f"Seen from here: {names}."]
    return "\n".join(lines) + "\n"


def _field_line(field: FieldSpec) -> str:
    notes = []
    if field.choices:
        notes.append("One of " + ", ".join(f"`{choice}`" for choice in field.choices) + ".")
    if field.has_default and field.default not in (None, ""):
        shown = list(field.default) if isinstance(field.default, tuple) else field.default
        notes.append(f"Default `{shown}`.")
    if field.read_only:
        notes.append("Set by Larvik.")
    elif field.immutable:
        notes.append("Fixed.")
    name = f"`{field.name}`" + (f" ({field.label})" if field.label else "")
    kind = f"{field.type.value}{', null' if field.nullable else ''}"
    return f"| {name} | {kind} | {field.unit or ''} | {' '.join([field.doc, *notes]).strip()} |"


def _relation_line(relation: RelationSpec) -> str:
    words = {OnDelete.CASCADE: "purged too", OnDelete.SET_NULL: "set null", OnDelete.PROTECT: "refused"}
    notes = f"{relation.doc} Set by Larvik." if relation.read_only else relation.doc
    return (
        f"| `{relation.name}` | {relation.target} | {'yes' if relation.nullable else 'no'} |"
        f" {words[relation.on_delete]} | {f'`{relation.reverse}`' if relation.reverse else ''} | {notes} |"
    )


def main() -> int:
    """Print the page, or with ``--check FILE`` compare it with a file."""
    parser = argparse.ArgumentParser(description="Reference of every model, as Markdown.")
    parser.add_argument(
        "--check", type=Path, nargs="?", const=Path("docs/models.md"), metavar="FILE",
        help="exit 1 when FILE (docs/models.md) is not up to date",
    )  # fmt: skip
    check = parser.parse_args().check
    if check is None:
        sys.stdout.write(render())
        return 0
    if check.read_text() == render():
        return 0
    sys.stderr.write(f"{check} is not up to date: run `python -m larvik.models.docs > {check}`.\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
