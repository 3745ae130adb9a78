"""Detectron2's Visualizer, with every label inside the image."""

from typing import Any, cast

from detectron2.utils import visualizer
from detectron2.utils.visualizer import VisImage
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text


class Visualizer(visualizer.Visualizer):
    """Draws as Detectron2's does, but moves a label that would cross the image's edge inside.

    A label larger than the image begins at its left or upper edge.
    """

    def draw_text(self, *args: Any, **kwargs: Any) -> VisImage:
        output = super().draw_text(*args, **kwargs)
        _move_inside(output.ax.texts[-1], output)
        return output


def _move_inside(text: Text, output: VisImage) -> None:
    """Move a text and the rectangle behind it by the least that brings both inside the image."""
    renderer = output.canvas.get_renderer()
    text.update_bbox_position_size(renderer)
    box = cast(FancyBboxPatch, text.get_bbox_patch())  # Detectron2's labels all have one
    label = box.get_window_extent(renderer)  # pixels; y points upwards
    canvas = output.fig.bbox
    dx = max(min(canvas.x1 - label.x1, 0), canvas.x0 - label.x0)
    dy = min(max(canvas.y0 - label.y0, 0), canvas.y1 - label.y1)
    if dx or dy:
        to_pixels = output.ax.transData
        x, y = to_pixels.transform(text.get_position())
        text.set_position(to_pixels.inverted().transform((x + dx, y + dy)))
