"""Pictures: what is bright in a map is bright over its place in the image, flat attention looks
flat, and nothing is blank."""

from dataclasses import replace

import numpy as np
import pytest
from colour_model import ColourModel, record_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation

from nl_detectron.attention import Attention, Grid, draw
from nl_detectron.attention.draw import GAP, SCALE, TITLE

IMAGE = np.full((80, 160, 3), 90, dtype=np.uint8)


def attention(weights, grid=None, point=(40.0, 20.0), box=None):
    weights = np.array(weights, dtype=float)
    grid = grid or Grid.over((0, 0, 160, 80), weights.shape)
    return Attention("res4.nonlocal4", "form", grid, point, weights, np.ones_like(weights), box)


def drawn(paint):
    """RGB of the axes alone, of the image's shape times four."""
    figure = Figure(figsize=(6.4, 3.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    paint(axes)
    for scale in axes.child_axes:
        scale.remove()
    return draw.as_image(figure).astype(float)


def painted(weights, **keys):
    """Arrows (x, y of their ends and widths) and the notes of a picture of arrows."""
    axes = Figure().add_axes((0, 0, 1, 1))
    draw.arrows(axes, IMAGE, replace(attention(weights), **keys))
    arrows = [t for t in axes.texts if isinstance(t, Annotation)]
    notes = [t.get_text() for t in axes.texts if not isinstance(t, Annotation)]
    return [(a.xy, a.arrow_patch.get_linewidth()) for a in arrows], notes


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
    weights[1, 3], weights[0, 3] = 1, 0.2
    picture = drawn(lambda axes: draw.arrows(axes, IMAGE, attention(weights), count=2))
    yellow = (picture[..., 0] > 200) & (picture[..., 2] < 120)
    lower = yellow[200:300, 480:600].sum()
    upper = yellow[20:120, 480:600].sum()
    assert lower > 1.5 * upper > 0


@pytest.mark.parametrize(("most", "arrows"), [(1.0, 0), (1.9, 0), (2.1, 1), (100.0, 1)])
def test_weights_that_are_nearly_even_have_a_note_in_place_of_arrows(most, arrows):
    weights = np.full((10, 20), (200 - most) / 199 / 200)
    weights[3, 4] = most / 200
    ends, notes = painted(weights)
    assert len(ends) == arrows
    expected = f"nearly even: at most {most:.1f} times uniform"
    assert notes == ([] if arrows else [expected])


def test_weak_peaks_have_thin_arrows_and_no_arrow_leads_to_less_than_the_uniform_weight():
    weights = np.full((10, 20), 1 / 200)
    weights[2, 3:8] = 2.5 / 200
    weak, _ = painted(weights)
    weights[2, 3] = 50 / 200
    strong, _ = painted(weights)
    assert len(weak) == 5 and len(strong) == 5
    widths = [width for _, width in weak]
    assert max(widths) < 0.5 * max(width for _, width in strong) == 2


def test_an_untrained_block_and_zeros_are_named():
    ends, notes = painted([[0, 0, 0, 1]], untrained=True)
    assert ends and notes == ["untrained block"]
    assert painted(np.full((2, 4), 1 / 8), untrained=True)[1] == [
        "untrained block, nearly even: at most 1.0 times uniform"
    ]
    assert painted(np.zeros((2, 4))) == ([], ["all weights are zero"])
    assert painted([[1, -1, 1, -1]])[1] == []  # of both signs


def test_nearly_even_weights_keep_to_the_lower_half_of_the_scale():
    def top(weights):
        axes = Figure().add_axes((0, 0, 1, 1))
        draw.heat(axes, IMAGE, attention(weights))
        return axes.images[-1].norm.vmax

    assert top([[0.3, 0.2, 0.25, 0.25]]) == pytest.approx(4)
    assert top([[0.7, 0.1, 0.1, 0.1]]) == pytest.approx(2.8)


@pytest.mark.parametrize("weights", [[[1, 0]], [[0, 1]]], ids=["looked at", "not looked at"])
@pytest.mark.parametrize("channel", range(3))
def test_colours_of_the_image_are_seen_through_a_map(channel, weights):
    image = IMAGE.copy()
    image[20:60, 20:60] = np.eye(3, dtype=np.uint8)[channel] * 255
    picture = drawn(lambda axes: draw.heat(axes, image, attention(weights)))
    patch = at(picture, 40, 40)
    assert patch.argmax() == channel
    assert patch[channel] > 40 + np.delete(patch, channel).max()


@pytest.mark.slow
def test_a_panel_has_a_pair_of_pictures_for_each_block_and_tells_what_is_missing():
    boxes = [[[0, 0, 30, 30]]]
    records = [record_rgb(ColourModel(boxes), [IMAGE], (0, 0))[0] for _ in range(2)]
    rows = [
        {block: record.attention(100, 60, block) for block in record.blocks} for record in records
    ]
    assert rows[0]["keypoint_head.nonlocal2"] is None
    figure = draw.panel(rows, records, ["one", "other"], first=IMAGE)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles[0] == "found"
    assert sum("\nres4.nonlocal0, gaussian" in t for t in titles) == 2
    assert sum("keypoint_head.nonlocal2: no RoI contains this point" in t for t in titles) == 2
    assert sum("gaussian, untrained" in t for t in titles) == 2

    def scales(scores):
        figure = draw.panel(rows, records, ["one", "other"], scores=scores)
        return {bar.get_ylabel() for axes in figure.axes for bar in axes.child_axes}

    assert scales(False) == {"weight / uniform weight"} and scales(True) == {"score, log f"}
    assert draw.as_image(figure).std() > 20


def test_facts_are_of_the_object_that_holds_the_point():
    [record] = record_rgb(ColourModel([[[0, 0, 80, 80]]]), [IMAGE], (0, 0))
    here = attention([[0.25, 0, 0, 0.75]], point=(20.0, 40.0))
    assert draw.facts(record, here) == "mean distance 90 px\n75 % outside the object's box"
    elsewhere = replace(here, point=(140.0, 40.0))
    assert draw.facts(record, elsewhere) == "mean distance 30 px"


def test_the_objects_box_is_drawn_where_a_share_outside_it_is_named():
    box = [10, 10, 90, 70]
    for boxes, named in (([box], True), ([[0, 0, 9, 9]], False), ([], False)):
        [record] = record_rgb(ColourModel([boxes]), [IMAGE], (0, 0))
        row = {"res4.nonlocal0": record.attention(40, 40, record.blocks[0])}
        [right] = [a for a in draw.panel([row], [record], ["x"]).axes if "mean" in a.get_title()]
        shown = [line.get_xydata()[:4].ravel().tolist() for line in right.lines]
        corners = [10, 10, 90, 10, 90, 70, 10, 70]
        assert (corners in shown) == ("outside the object's box" in right.get_title()) == named


def test_a_model_that_finds_no_instances_has_no_objects_box():
    [record] = record_rgb(ColourModel([[]]), [IMAGE], (0, 0))
    record.found = {"sem_seg": None}
    assert draw.facts(record, attention([[1, 0]])) == "mean distance 20 px"
    draw.panel([{"a.b": record.attention(5, 5, record.blocks[0])}], [record], ["x"])


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(96, 288), (300, 100), (64, 64)])
@pytest.mark.parametrize("rows", [1, 3])
def test_no_part_of_a_panel_is_blank_but_titles_and_scales(shape, rows):
    image = np.random.default_rng(0).integers(0, 200, (*shape, 3), dtype=np.uint8)
    [record] = record_rgb(ColourModel([[]]), [image], (0, 0))
    row = {block: record.attention(30, 30, block) for block in record.blocks}  # one is None
    picture = draw.as_image(draw.panel([row] * rows, [record] * rows, ["x"] * rows))
    for axis, most in ((1, TITLE + 2 * GAP), (0, SCALE + GAP)):
        blank = (picture > 250).all(axis=2).all(axis=axis)
        runs = "".join("." if line else "x" for line in blank).split("x")
        assert max(map(len, runs)) / 100 <= most


@pytest.mark.slow
def test_a_summary_is_drawn_for_every_block():
    [record] = record_rgb(ColourModel([[[0, 0, 30, 30]]]), [IMAGE], (0, 0))
    figure = draw.summary(record, record.blocks)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 4 and sum(", untrained\n" in title for title in titles) == 2
    assert draw.as_image(figure).std() > 20


def test_drawing_leaves_no_figures_open():
    from matplotlib import pyplot

    open_before = pyplot.get_fignums()
    [record] = record_rgb(ColourModel([[]]), [IMAGE], (0, 0))
    draw.panel([{"x": record.attention(5, 5, record.blocks[0])}], [record], ["x"])
    assert pyplot.get_fignums() == open_before
