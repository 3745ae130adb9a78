"""Labels of pictures: none is cut off at the image's edge."""

import numpy as np
import pytest
from detectron2.utils import visualizer

from nl_detectron.visualizer import Visualizer

HEIGHT, WIDTH = 96, 288
AT_EDGES = [
    (230, 20, 287, 95),  # lower right: Detectron2 puts the label to the right of the box
    (260, 0, 288, 20),
    (0, 0, 30, 30),
    (-5, 60, 20, 99),
    (100, 60, 140, 96),
]


def draw_boxes(kind, boxes, label="class 17 100%", scale=2):
    """The picture, and whether each label with its rectangle lies inside."""
    drawn = kind(np.full((HEIGHT, WIDTH, 3), 120, np.uint8), None, scale)
    colours = [(1.0, 0.5, 0.0)] * len(boxes)
    labels = [label] * len(boxes)
    output = drawn.overlay_instances(boxes=np.array(boxes), labels=labels, assigned_colors=colours)
    picture = output.get_image()
    renderer, canvas, inside = output.canvas.get_renderer(), output.fig.bbox, []
    for text in output.ax.texts:
        text.update_bbox_position_size(renderer)
        x0, y0, x1, y1 = text.get_bbox_patch().get_window_extent(renderer).extents
        inside.append(min(x0, y0) > -0.1 and x1 < canvas.x1 + 0.1 and y1 < canvas.y1 + 0.1)
    return picture, inside


@pytest.mark.parametrize("scale", [1, 2, 3.3])
def test_labels_at_the_edges_lie_inside(scale):
    _, inside = draw_boxes(Visualizer, AT_EDGES, scale=scale)
    assert len(inside) == len(AT_EDGES) and all(inside)


def test_detectron2_cuts_labels_at_the_edges():
    _, inside = draw_boxes(visualizer.Visualizer, AT_EDGES)
    assert not all(inside)


def test_other_pictures_are_detectron2s():
    box = [(100, 20, 180, 70)]
    ours, _ = draw_boxes(Visualizer, box)
    theirs, inside = draw_boxes(visualizer.Visualizer, box)
    assert all(inside) and np.array_equal(ours, theirs)


def test_a_label_wider_than_the_image_begins_at_its_left_edge():
    drawn = Visualizer(np.zeros((40, 40, 3), np.uint8), None)
    output = drawn.draw_text(
        "a class of a very long name 100%", (30, 10), horizontal_alignment="left"
    )
    [text] = output.ax.texts
    text.update_bbox_position_size(output.canvas.get_renderer())
    extent = text.get_bbox_patch().get_window_extent(output.canvas.get_renderer())
    assert extent.x0 == pytest.approx(0, abs=0.1) and extent.x1 > 40
