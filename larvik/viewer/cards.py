"""Cards for notebooks: one row, or the first rows of a query, with thumbnails."""

from __future__ import annotations

import base64
import io
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

from larvik.errors import LarvikError, UnsupportedError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from larvik.models.base import Model
    from larvik.query.queryset import QuerySet

#: Cards shown of a query.
SHOWN = 3
THUMBNAIL_PIXELS = 128
#: Facts shown of a part: a channel, a plane, an objective, ...
PART_FACTS = 5
SYMBOLS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm", "second": "s", "pixel": "px"}
BOX = (
    "display:inline-flex;box-sizing:border-box;gap:12px;vertical-align:top;padding:10px;min-width:250px;"
    "max-width:420px;border:1px solid rgba(128,128,128,.35);border-radius:8px;"
    "font:13px/1.45 system-ui,sans-serif"
)
FRAME = (
    f"flex:none;width:{THUMBNAIL_PIXELS}px;max-height:{THUMBNAIL_PIXELS}px;object-fit:contain;"
    "object-position:top;align-self:flex-start;border-radius:4px"
)
CHIP = (
    "display:inline-block;box-sizing:border-box;max-width:100%;overflow:hidden;text-overflow:ellipsis;"
    "white-space:nowrap;vertical-align:top;border:1px solid rgba(128,128,128,.4);border-radius:9px;"
    "line-height:1.3;padding:0 6px;margin:1px 4px 1px 0"
)
FAINT = '<span style="opacity:.65">{}</span>'
#: What a row belongs to, what describes it, and which of its rows are counted; shown where a model has it.
OWNERS = ("experiment", "group", "animal", "sample", "representation")
WORDS = ("type", "kind", "species", "strain", "target", "label")
COUNTED = {"Experiment": ("samples", "animals"), "Sample": ("representations",)}


def row_card(row: Model) -> str:
    """Return the HTML card of one row: picture, name, what it belongs to, dims and channels."""
    spec = row._spec
    picture = _thumbnail(row) if spec.is_array else ""
    name = str(row._values.get("name") or row._values.get("label") or row.id)
    lines = [
        f'<div style="opacity:.65;font-size:11px">{escape(spec.name)}</div>',
        f'<div style="font-weight:600;font-size:14px;overflow-wrap:anywhere">{escape(shorten(name))}</div>',
        *(f"<div>{line}</div>" for line in _facts(row)),
        f'<div style="opacity:.5;font:10px monospace">{escape(row.id)}</div>',
    ]
    return f'<div style="{BOX}">{picture}<div style="min-width:0">{"".join(lines)}</div></div>'


def query_card(query: QuerySet[Any]) -> str:
    """Return the first cards of a query and how many rows there are: "3 of 128"."""
    count = query.count()
    rows = list(islice(query[:SHOWN], SHOWN)) if count else []
    cards = "".join(row_card(row) for row in rows)
    noun = escape(query.query.model)
    words = (
        f"{len(rows)} of {count:,} {noun} rows"
        if count > len(rows)
        else f"{count or 'No'} {noun} row{'s'[: count != 1]}"
    )
    style = "font:12px system-ui,sans-serif;opacity:.7;margin:4px 2px"
    shelf = "display:flex;flex-wrap:wrap;gap:8px;align-items:stretch"
    return f'<div><div style="{shelf}">{cards}</div><div style="{style}">{words}</div></div>'


def shorten(text: str, most: int = 120) -> str:
    """Return `text`, cut to `most` characters."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _facts(row: Model) -> list[str]:
    facts = []
    for name in OWNERS:
        if row._spec.relation(name) is not None and row._values.get(f"{name}_id"):
            related = getattr(row, name)
            facts.append(f"{FAINT.format(name)} {escape(shorten(str(getattr(related, 'name', related.id))))}")
    words = [str(row._values[name]) for name in WORDS if row._values.get(name)]
    if words:
        facts.append(" · ".join(escape(shorten(word, 40)) for word in words))
    if row._spec.is_array and row._values.get("spec"):
        facts += _array_facts(row._values["spec"], str(row._values["dtype"]))
    if row._spec.is_part:
        facts += _part_facts(row)
    counts = [(name, getattr(row, name).count()) for name in COUNTED.get(row._spec.name, ())]
    shown = [f"{count:,} {name if count != 1 else name[:-1]}" for name, count in counts if count]
    return facts + ([" · ".join(shown)] if shown else [])


def _part_facts(row: Model) -> list[str]:
    """Return the first values that OME has a name for."""
    facts = []
    for column in row._spec.fields:
        value = row._values.get(column.name)
        if column.label and column.name != "name" and isinstance(value, str | int | float):
            shown = f"{value:g}" if isinstance(value, float) else shorten(str(value), 60)
            unit = SYMBOLS.get(column.unit or "", column.unit or "")
            facts.append(f"{FAINT.format(escape(column.label))} {escape(shown)} {escape(unit)}".rstrip())
    return facts[:PART_FACTS]


def _array_facts(spec: dict[str, Any], dtype: str) -> list[str]:
    level = spec["levels"][0]
    sizes = " ".join(
        f"{escape(axis['name'])}&thinsp;{size}"
        for axis, size in zip(spec["axes"], level["shape"], strict=True)
    )
    facts = [f"{escape_spaces(sizes)} · {escape(dtype)}"]
    extent = [
        f"{step * size:.4g} {SYMBOLS.get(axis['unit'], axis['unit'])}"
        for axis, step, size in zip(spec["axes"], level["spacing"], level["shape"], strict=True)
        if axis["type"] == "space" and axis["unit"] not in (None, "pixel")
    ]
    if extent:
        facts.append(escape(" × ".join(extent)))
    names = spec.get("channel_names") or ()
    if names:
        chips = "".join(f'<span style="{CHIP}">{escape(shorten(str(name), 60))}</span>' for name in names[:6])
        facts.append(chips + (f"+{len(names) - 6}" if len(names) > 6 else ""))
    return facts


def escape_spaces(text: str) -> str:
    """Return `text` with spaces that do not break."""
    return text.replace(" ", "&nbsp; ")


def _thumbnail(row: Any) -> str:
    """Return an ``<img>`` of the array, or a note when no picture can be made."""
    try:
        rgb = row.viewer.thumbnail(THUMBNAIL_PIXELS)
        data = base64.b64encode(png(rgb)).decode()
    except LarvikError as error:
        note = f"no picture: {escape(shorten(str(error), 200))}"
        return f'<div style="flex:none;width:{THUMBNAIL_PIXELS}px;opacity:.6;font-size:11px">{note}</div>'
    scaling = "pixelated" if max(rgb.shape[:2]) < THUMBNAIL_PIXELS / 2 else "auto"
    name = escape(shorten(str(row._values.get("name"))))
    return f'<img alt="{name}" src="data:image/png;base64,{data}" style="{FRAME};image-rendering:{scaling}">'


def png(rgb: NDArray[np.uint8]) -> bytes:
    """Return `rgb` of shape (y, x, 3), uint8, as a PNG file.

    Raises
    ------
    UnsupportedError
        ``EXTRA_MISSING`` without Pillow; names the extra to install.
    """
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UnsupportedError(
            "Pictures need Pillow: pip install 'larvik[viewer]'.", reason="EXTRA_MISSING", extra="viewer"
        ) from None

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()
