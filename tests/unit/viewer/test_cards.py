"""Notebook cards of rows and queries: what they say, and that no name can break out of them."""

from __future__ import annotations

import base64
import io
import re
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import larvik
from larvik import Channel, Experiment, Representation, Sample
from larvik.connection import Connection
from larvik.errors import UnsupportedError
from larvik.viewer.render import shrink

HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'&amp;'


class Page(HTMLParser):
    """Collects tags and text, and refuses tags that are left open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag != "img":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[Connection]:
    with larvik.connect(tmp_path / "data") as opened:
        yield opened


def stored(name: str = "cells", *, channels: int = 2, sample: Sample | None = None) -> Representation:
    values = np.random.default_rng(0).integers(0, 900, (channels, 300, 200), dtype=np.uint16)
    image = xr.DataArray(values, dims=("c", "y", "x"), coords={"c": [f"dye {n}" for n in range(channels)]})
    image = image.assign_coords(y=np.arange(300) * 0.5, x=np.arange(200) * 0.5)
    image.x.attrs["units"] = image.y.attrs["units"] = "micrometer"
    return Representation.objects.from_xarray(image, name=name, sample=sample)


def picture(html: str) -> Image.Image:
    found = re.search(r'src="data:image/png;base64,([^"]+)"', html)
    assert found is not None
    return Image.open(io.BytesIO(base64.b64decode(found[1])))


def test_a_card_of_an_image_shows_its_pixels_and_what_it_is(connection: Connection) -> None:
    sample = Sample.objects.create(name="Slide 1")
    html = stored(sample=sample)._repr_html_()
    text = Page(html).text
    for words in ("cells", "Slide 1", "uint16", "150 µm × 100 µm", "dye 0", "dye 1"):
        assert words in text
    thumbnail = picture(html)
    assert max(thumbnail.size) <= 128
    assert np.asarray(thumbnail).std() > 1
    assert len(html) < 100_000


def test_a_query_shows_three_cards_and_counts_all(connection: Connection) -> None:
    experiment = Experiment.objects.create(name="Animal study")
    Sample.objects.bulk_create([Sample(name=f"mouse {n}", experiment=experiment) for n in range(128)])
    page = Page(Sample.objects.order_by("created_at")._repr_html_())
    assert "3 of 128 Sample rows" in page.text
    assert page.text.count("Animal study") == 3
    assert "128 samples" in Page(experiment._repr_html_()).text


@pytest.mark.parametrize(
    ("count", "words"), [(0, "No Sample rows"), (1, "1 Sample row\n"), (3, "3 Sample rows")]
)
def test_small_queries_count_in_words(connection: Connection, count: int, words: str) -> None:
    Sample.objects.bulk_create([Sample(name=f"mouse {n}") for n in range(count)])
    assert words in Page(Sample.objects.all()._repr_html_()).text


def test_hostile_names_stay_text(connection: Connection) -> None:
    experiment = Experiment.objects.create(name=HOSTILE)
    sample = Sample.objects.create(name=HOSTILE, experiment=experiment)
    image = xr.DataArray(np.zeros((2, 8, 8), np.uint8), dims=("c", "y", "x"), coords={"c": [HOSTILE, "b"]})
    rep = Representation.objects.from_xarray(image, name=HOSTILE, sample=sample, type="<b>")
    rows = [experiment, sample, rep, Channel.objects.get(name=HOSTILE)]
    for shown in (*rows, Sample.objects.all(), Representation.objects.all()):
        page = Page(shown._repr_html_())
        assert set(page.tags) <= {"div", "span", "img"}
        assert not [name for name in page.attributes if name.startswith("on")]
        assert HOSTILE in page.text


def test_long_names_are_cut(connection: Connection) -> None:
    text = Page(Sample.objects.create(name="n" * 390)._repr_html_()).text
    assert "n" * 119 + "…" in text
    assert "n" * 120 not in text


def test_many_channels_are_counted(connection: Connection) -> None:
    assert "+3" in Page(stored(channels=9)._repr_html_()).text


def test_a_part_shows_what_ome_calls_its_values(connection: Connection) -> None:
    stored()
    channel = Channel.objects.get(name="dye 1")
    assert "Index" in Page(channel._repr_html_()).text


def test_an_image_whose_bytes_are_gone_has_a_card_that_says_so(
    connection: Connection, tmp_path: Path
) -> None:
    rep = stored()
    shutil.rmtree(tmp_path / "data" / "arrays")
    page = Page(rep._repr_html_())
    assert "img" not in page.tags
    assert "no picture" in page.text


@pytest.mark.parametrize("module", ["PIL", "matplotlib"])
def test_missing_libraries_are_named_with_the_cure(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    rep = stored()
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    if module == "PIL":
        assert "pip install 'larvik[viewer]'" in Page(rep._repr_html_()).text
        return
    with pytest.raises(UnsupportedError, match=r"pip install 'larvik\[viewer\]'"):
        rep.viewer.show()
    assert "img" in Page(rep._repr_html_()).tags  # cards need no matplotlib


def test_shrinking_keeps_the_mean_and_the_bounds() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (301, 77, 3), dtype=np.uint8)
    small = shrink(rgb, 50)
    assert small.shape == (43, 11, 3)
    assert small.dtype == np.uint8
    np.testing.assert_allclose(small.mean(), rgb.mean(), atol=1)
    assert shrink(rgb, 301) is rgb
    flat = np.full((130, 9, 3), 255, np.uint8)
    assert (shrink(flat, 64) == 255).all()
