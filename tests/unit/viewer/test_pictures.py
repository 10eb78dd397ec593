"""Pictures: what is chosen to be shown, and in which colours."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from larvik.errors import InvalidArgumentError, SelectionError
from larvik.viewer import render
from larvik.viewer.picture import make_picture
from larvik.viewer.show import bar_length, draw


def image(**sizes: int) -> xr.DataArray:
    values = np.random.default_rng(0).integers(0, 4000, tuple(sizes.values()), dtype="uint16")
    coords: dict[str, object] = {}
    if "c" in sizes:
        coords["c"] = [f"channel {index}" for index in range(sizes["c"])]
    array = xr.DataArray(values, dims=tuple(sizes), coords=coords, name="field 3")
    if "x" in sizes:
        array = array.assign_coords(x=np.arange(sizes["x"]) * 0.25, y=np.arange(sizes["y"]) * 0.25)
        array.x.attrs["units"] = array.y.attrs["units"] = "micrometer"
    return array


@pytest.mark.parametrize(("channels", "panels"), [(1, 1), (2, 1), (3, 1), (4, 1), (5, 5)])
def test_up_to_four_channels_are_one_picture_and_more_stand_side_by_side(channels: int, panels: int) -> None:
    picture = make_picture(image(t=2, c=channels, z=3, y=16, x=16))
    assert len(picture.panels) == panels
    assert picture.panels[0].rgb.shape == (16, 16, 3)
    assert picture.panels[0].rgb.dtype == np.uint8


def test_the_title_says_what_was_chosen() -> None:
    picture = make_picture(image(t=2, c=1, z=3, y=8, x=8), t=1)
    assert picture.title == "field 3 · t 2 of 2 · max over 3 z"


def test_z_is_projected_by_maximum_unless_a_section_is_named() -> None:
    stack = xr.DataArray(np.zeros((2, 4, 4), "uint8"), dims=("z", "y", "x"))
    stack[1, 0, 0] = 200
    assert make_picture(stack).panels[0].rgb[0, 0].tolist() == [255, 255, 255]
    assert make_picture(stack, z=0).panels[0].rgb.max() == 0


def test_dims_of_any_name_are_shown_by_their_last_two() -> None:
    array = xr.DataArray(np.zeros((3, 5, 7)), dims=("phase", "row", "column"))
    assert make_picture(array).panels[0].rgb.shape == (5, 7, 3)


def test_channels_are_picked_by_name_or_position() -> None:
    both = make_picture(image(c=3, y=8, x=8), channels=["channel 2", 0])
    assert [name for name, _ in both.panels[0].legend] == ["channel 2", "channel 0"]


def test_an_unknown_channel_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(SelectionError, match="Did you mean 'channel 1'"):
        make_picture(image(c=2, y=8, x=8), channels=["chanel 1"])


def test_positions_outside_are_refused_by_name() -> None:
    with pytest.raises(SelectionError, match="t=7 lies outside the 2 positions"):
        make_picture(image(t=2, y=8, x=8), t=7)


def test_fewer_than_two_dims_cannot_be_shown() -> None:
    with pytest.raises(InvalidArgumentError, match="needs two dims"):
        make_picture(xr.DataArray(np.zeros(3), dims=("x",)))


def test_no_elements_cannot_be_shown() -> None:
    with pytest.raises(InvalidArgumentError, match="no elements"):
        make_picture(xr.DataArray(np.zeros((0, 3)), dims=("y", "x")))


def test_an_anisotropic_pixel_is_drawn_in_its_proportions() -> None:
    array = image(y=8, x=8).assign_coords(y=np.arange(8) * 0.5)
    assert make_picture(array).aspect == pytest.approx(2.0)


def test_without_calibration_there_is_no_scale_bar() -> None:
    array = xr.DataArray(np.zeros((8, 8)), dims=("y", "x"), coords={"x": np.arange(8)})
    assert make_picture(array).spacing is None


def test_labels_keep_background_black_and_neighbours_apart() -> None:
    rgb = render.label_picture(np.array([[0, 1], [2, 256]]))
    assert rgb[0, 0].tolist() == [0, 0, 0]
    assert len({tuple(pixel) for pixel in rgb.reshape(-1, 3).tolist()}) >= 3


def test_nan_and_infinity_do_not_disturb_contrast() -> None:
    plane = np.linspace(0, 1, 100, dtype="float32").reshape(10, 10)
    plane[0, 0], plane[0, 1] = np.nan, np.inf
    low, high = render.window_of(plane)
    assert 0 <= low < high <= 1


def test_a_constant_plane_has_a_window_of_some_width() -> None:
    low, high = render.window_of(np.full((5, 5), 7, "uint16"))
    assert high > low


def test_alike_colours_are_replaced_so_that_channels_can_be_told_apart() -> None:
    assert len(set(render.channel_colors(["#ffffff", "#ffffff", "#ffffff"]))) == 3
    assert render.channel_colors(["#ff0000", "#00ff00"]) == ["#ff0000", "#00ff00"]


@pytest.mark.parametrize(("width", "length"), [(100.0, 20.0), (66.5, 10.0), (1.0, 0.2), (5000.0, 1000.0)])
def test_scale_bars_have_round_lengths(width: float, length: float) -> None:
    assert bar_length(width) == pytest.approx(length)


def test_a_figure_has_an_axes_for_each_panel_and_one_scale_bar() -> None:
    figure = draw(make_picture(image(c=6, y=16, x=16)))
    shown = [axes for axes in figure.axes if axes.images]
    assert len(shown) == 6
    assert [len(axes.lines) for axes in shown] == [0, 0, 0, 0, 0, 1]


def test_the_scale_bar_is_as_long_as_it_says() -> None:
    figure = draw(make_picture(image(y=40, x=200)))
    (bar,) = figure.axes[0].lines
    start, end = bar.get_xdata()
    assert (end - start) * 0.25 == pytest.approx(10)
    assert [text.get_text() for text in figure.axes[0].texts] == ["10 µm"]


@pytest.mark.parametrize(("y", "x"), [(900, 10), (10, 900), (64, 64), (700, 300)])
def test_figures_fit_a_screen_whatever_the_proportions(y: int, x: int) -> None:
    width, height = draw(make_picture(image(c=6, y=y, x=x))).get_size_inches()
    assert 1 < width <= 10
    assert 0.5 < height <= 10


def test_words_that_are_too_long_are_cut() -> None:
    plain = image(c=1, y=64, x=64).assign_coords(c=["n" * 300])
    plain.name = "plate " * 100
    figure = draw(make_picture(plain))
    assert len(figure.get_suptitle()) < 100
    assert all(len(text.get_text()) <= 40 for axes in figure.axes for text in axes.texts)
