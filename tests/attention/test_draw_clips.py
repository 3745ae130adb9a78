"""Pictures of attention across frames: arrows and maps lie in the frame of their position."""

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from nl_detectron.attention import ClipAttention, Grid
from nl_detectron.attention.draw import as_image
from nl_detectron.attention.draw_clips import (
    MOST_FRAMES,
    WIDE_GAP,
    choose_frames,
    clip_arrows,
    clip_heat,
    clip_panel,
    describe,
)

HEIGHT, WIDTH = 40, 80
CLIP = torch.full((3, 16, HEIGHT, WIDTH), 90, dtype=torch.uint8)
GRID = Grid.over((0, 0, WIDTH, HEIGHT), (2, 4))  # cells of 20 pixels
STEP = WIDTH * (1 + WIDE_GAP)


def attention(*weights, frames=(1, 5, 9, 13), point=(5, 10.0, 30.0)) -> ClipAttention:
    """Attention with weights given as (part, row, column, weight)."""
    of_all = np.zeros((len(frames), *GRID.shape))
    for *at, weight in weights:
        of_all[tuple(at)] = weight
    seen = of_all.size
    return ClipAttention("backbone.res4.nonlocal0", "form", GRID, frames, point, of_all, seen)


def drawn(paint, frames=4):
    """RGB of four frames side by side, each pixel of which is two by two."""
    width = (frames - 1) * STEP + WIDTH
    figure = Figure(figsize=(width / 50, HEIGHT / 50))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    paint(axes)
    for bar in axes.child_axes:
        bar.remove()
    return as_image(figure).astype(float)


def mean_at(picture, part, x, y, reach=6):
    row, column = round(2 * y), round(2 * (part * STEP + x))
    return picture[row - reach : row + reach, column - reach : column + reach].mean(axis=(0, 1))


def is_yellow(picture):
    return (picture[..., 0] > 200) & (picture[..., 1] > 190) & (picture[..., 2] < 150)


def test_arrows_end_in_the_frame_of_their_position():
    found = attention((3, 0, 3, 0.9))  # of frame 13, at 70, 10
    yellow = is_yellow(drawn(lambda axes: clip_arrows(axes, CLIP, found)))
    rows, columns = np.nonzero(yellow)
    assert abs(columns.min() / 2 - (STEP + 10)) < 8  # it begins at x_i, in the second frame
    assert abs(columns.max() / 2 - (3 * STEP + 70)) < 8
    assert rows[columns.argmax()] / 2 == pytest.approx(10, abs=3)
    elsewhere = attention((0, 0, 3, 0.9))
    other = is_yellow(drawn(lambda axes: clip_arrows(axes, CLIP, elsewhere)))
    assert np.nonzero(other)[1].max() / 2 < STEP + 20


def test_heat_lies_over_its_frame_and_place():
    picture = drawn(lambda axes: clip_heat(axes, CLIP, attention((2, 1, 3, 1.0))))
    bright = mean_at(picture, 2, 70, 30)
    for part, x, y in ((2, 10, 30), (2, 70, 8), (1, 70, 30), (3, 70, 30)):
        dark = mean_at(picture, part, x, y)
        assert bright[:2].sum() > dark[:2].sum() + 60  # yellow against blue


def test_frames_with_much_weight_are_chosen_where_there_are_many():
    frames = tuple(range(1, 80, 2))
    weights = [(part, 0, 0, 1.0 + part) for part in range(20, 20 + MOST_FRAMES)]
    found = attention(*weights, frames=frames, point=(3, 10.0, 30.0))
    chosen = choose_frames(found, 80)
    assert chosen == [3, *(frames[part] for part in range(21, 20 + MOST_FRAMES))]
    clip = torch.zeros(3, 80, 8, 16, dtype=torch.uint8)
    assert as_image(clip_panel(clip, [found], ["x"])).std() > 5


def test_all_frames_of_a_short_clip_are_shown_and_share_the_map_of_their_position():
    clip = CLIP[:, :8]
    found = attention((1, 1, 3, 1.0), frames=(0, 2, 4, 6), point=(0, 10.0, 30.0))
    assert choose_frames(found, 8) == list(range(8))
    maps = []
    figure = clip_panel(clip, [found], ["x"])
    for image in figure.axes[1].get_images()[1::2]:
        maps.append(image.get_array().max())
    assert maps == [0, 0, 32, 32, 0, 0, 0, 0]
    lefts = [image.get_extent()[0] for image in figure.axes[0].get_images()]
    steps = np.diff(lefts)
    assert (steps[::2] < steps[1]).all() and np.ptp(steps[1::2]) < 1e-9


def test_a_panel_says_where_the_weight_lies_and_which_frames_are_shown():
    found = attention((0, 0, 0, 0.75), (1, 0, 0, 0.25))
    assert describe(found) == "res4.nonlocal0, form: 75 % in other frames"
    figure = clip_panel(CLIP, [found, found], ["one", "other"], numbers=range(100, 132, 2))
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    expected = "res4.nonlocal0, form: 75 % in other frames"
    assert [title for title in titles if title] == [f"one\n{expected}", f"other\n{expected}"]
    numbers = [text.get_text() for text in figure.axes[0].texts if text.get_text()]
    assert numbers == ["102", "110", "118", "126"]
    assert figure.axes[1].child_axes[0].get_ylabel() == "weight / uniform weight"


def test_signed_weights_are_dotted_and_have_two_colours():
    found = attention((0, 0, 0, 0.5), (3, 0, 0, -0.5))
    assert found.signed and not attention((0, 0, 0, 0.5)).signed
    picture = drawn(lambda axes: clip_heat(axes, CLIP, found))
    above, below = mean_at(picture, 0, 10, 10), mean_at(picture, 3, 10, 10)
    assert above[2] - above[0] > below[2] - below[0] + 40  # purple above zero, orange below


@pytest.mark.parametrize("size", [(300, 2), (2, 300), (1, 1)])
def test_frames_of_any_shape_are_drawn(size):
    clip = torch.zeros(3, 8, *size, dtype=torch.uint8)
    grid = Grid.over((0, 0, size[1], size[0]), (2, 4))
    found = ClipAttention("b", "f", grid, (1, 5), (1, 0.5, 0.5), np.ones((2, 2, 4)), 16)
    assert max(as_image(clip_panel(clip, [found], ["x"])).shape) < 4000
