"""Pictures: what is bright in a map is bright over its place in the image, and nothing is blank."""

from dataclasses import replace

import numpy as np
import pytest
from colour_model import ColourModel

from nl_detectron.attention import Attention, Grid, draw, record_attention

IMAGE = np.full((80, 160, 3), 90, dtype=np.uint8)


def attention(weights, grid=None, point=(40.0, 20.0), box=None):
    weights = np.array(weights, dtype=float)
    grid = grid or Grid.over((0, 0, 160, 80), weights.shape)
    return Attention("res4.nonlocal4", "form", grid, point, weights, np.ones_like(weights), box)


def drawn(paint):
    """RGB of the axes alone, of the image's shape times four."""
    figure, axes = draw.make_figure(1, 1, (6.4, 3.2))
    figure.set_layout_engine("none")
    axes[0, 0].set_position((0, 0, 1, 1))
    axes[0, 0].axis("off")
    paint(axes[0, 0])
    for scale in axes[0, 0].child_axes:
        scale.remove()
    axes[0, 0].set_position((0, 0, 1, 1))
    return draw.as_image(figure).astype(float)


def at(picture, x, y):
    """Mean colour near a point of the image."""
    row, column = int(y * 4), int(x * 4)
    return picture[row - 8 : row + 8, column - 8 : column + 8].mean(axis=(0, 1))


@pytest.mark.parametrize("mirrored", [False, True])
def test_heat_lies_over_its_place(mirrored):
    grid = Grid.over((0, 0, 160, 80), (2, 4))
    if mirrored:
        grid = grid.mapped((-1, 1), (160, 0))
    weights = np.zeros((2, 4))
    weights[grid.nearest(140, 60)] = 1
    picture = drawn(lambda axes: draw.heat(axes, IMAGE, attention(weights, grid)))
    bright, dark = at(picture, 140, 60), at(picture, 140, 15)
    assert bright[:2].sum() > dark[:2].sum() + 60  # yellow against blue
    assert np.abs(at(picture, 15, 60) - dark).max() < 15


def test_signed_weights_have_two_colours_about_zero():
    picture = drawn(lambda axes: draw.heat(axes, IMAGE, attention([[1, 0, 0, -1]])))
    right, middle, left = (at(picture, x, 60) for x in (145, 100, 15))
    bluer = [colour[2] - colour[0] for colour in (left, middle, right)]
    assert bluer[0] > bluer[1] + 10 > bluer[2] + 50  # purple above zero, orange below
    assert np.ptp(middle) < 25


def test_scores_show_an_order_where_weights_are_all_on_one_position():
    scores = np.array([[900.0, 300, 200, 100]])
    one = replace(attention([[1, 0, 0, 0]]), scores=scores)
    picture = drawn(lambda axes: draw.heat_of_scores(axes, IMAGE, one))
    yellows = [at(picture, x, 60)[:2].sum() - at(picture, x, 60)[2] for x in (60, 100, 145)]
    assert yellows[0] > yellows[1] > yellows[2]
    with pytest.raises(ValueError, match="softmax form, which has scores, got form"):
        drawn(lambda axes: draw.heat_of_scores(axes, IMAGE, attention([[1, 0]])))


def test_what_lies_on_padding_is_cut_off():
    grid = Grid((0, 0), (32, 32), (4, 6))  # 192 x 128, of an image of 160 x 80
    picture = drawn(lambda axes: draw.heat(axes, IMAGE, attention(np.ones((4, 6)), grid)))
    assert picture.shape[:2] == (320, 640)


def test_arrows_go_to_the_strongest_the_wider_the_stronger():
    weights = np.zeros((2, 4))
    weights[1, 3], weights[0, 3] = 1, 0.1
    picture = drawn(lambda axes: draw.arrows(axes, IMAGE, attention(weights), count=2))
    yellow = (picture[..., 0] > 200) & (picture[..., 2] < 120)
    lower = yellow[200:300, 480:600].sum()
    upper = yellow[20:120, 480:600].sum()
    assert lower > 1.5 * upper > 0


def test_a_panel_has_a_pair_of_pictures_for_each_block_and_tells_what_is_missing():
    boxes = [[[0, 0, 30, 30]]]
    records = [record_attention(ColourModel(boxes), [IMAGE], (0, 0))[0] for _ in range(2)]
    rows = [
        {block: record.attention(100, 60, block) for block in record.blocks} for record in records
    ]
    assert rows[0]["keypoint_head.nonlocal2"] is None
    figure = draw.panel(rows, records, ["one", "other"], first=IMAGE)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "found"
    assert sum("\nres4.nonlocal0, gaussian" in t for t in titles) == 2
    assert sum("keypoint_head.nonlocal2: no RoI contains this point" in t for t in titles) == 2

    def scales(scores):
        figure = draw.panel(rows, records, ["one", "other"], scores=scores)
        return {bar.get_ylabel() for axes in figure.axes for bar in axes.child_axes}

    assert scales(False) == {"weight / uniform weight"} and scales(True) == {"score, log f"}
    assert draw.as_image(figure).std() > 20


def test_facts_are_of_the_object_that_holds_the_point():
    [record] = record_attention(ColourModel([[[0, 0, 80, 80]]]), [IMAGE], (0, 0))
    here = attention([[0.25, 0, 0, 0.75]], point=(20.0, 40.0))
    assert draw.facts(record, here) == "mean distance 90 px\n75 % outside the object's box"
    elsewhere = replace(here, point=(140.0, 40.0))
    assert draw.facts(record, elsewhere) == "mean distance 30 px"


def test_a_summary_is_drawn_for_every_block():
    [record] = record_attention(ColourModel([[[0, 0, 30, 30]]]), [IMAGE], (0, 0))
    figure = draw.summary(record, record.blocks)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 4 and "entropy of each look, nats; even: 5.4" not in titles[0]
    assert draw.as_image(figure).std() > 20


def test_drawing_leaves_no_figures_open():
    from matplotlib import pyplot

    open_before = pyplot.get_fignums()
    [record] = record_attention(ColourModel([[]]), [IMAGE], (0, 0))
    draw.panel([{"x": record.attention(5, 5, record.blocks[0])}], [record], ["x"])
    assert pyplot.get_fignums() == open_before
