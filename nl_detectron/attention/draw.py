"""Matplotlib figures of attention, like the paper's Figures 1 and 3."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from .geometry import Grid
from .maps import (
    add_scale,
    arrows,
    describe_doubt,
    draw_box,
    draw_image,
    draw_map,
    heat,
    heat_of_scores,
)
from .metrics import mean_distance, share
from .record import Attention, AttentionRecord, holds

__all__ = [
    "arrows",
    "as_image",
    "describe_doubt",
    "facts",
    "heat",
    "heat_of_scores",
    "panel",
    "summary",
]

HIGHEST = 15  # height of a picture by its width; Matplotlib cannot draw text in a higher figure
# inches of a picture's width, of a colour bar with its label, of two lines of title, and between
PICTURE, SCALE, TITLE, GAP = 3.6, 0.75, 0.42, 0.12


def panel(
    rows: Sequence[Mapping[str, Attention | None]],
    records: Sequence[AttentionRecord],
    titles: Sequence[str],
    first: np.ndarray | None = None,
    scores: bool = False,
) -> Figure:
    """Make a figure with one row per record or point and two pictures per attention.

    Args:
        rows: attentions by the block's name, equally many in each row; None if no RoI of a head
            contains the point.
        records: one record per row.
        titles: one title per row, for what differs: a model, a pairwise function or a point.
        first: an RGB picture at the start of the first row, such as the detections.
        scores: show the scores (:func:`heat_of_scores`) instead of the weights where there are any.
    """
    blocks = max(len(row) for row in rows)
    widths = ([PICTURE] if first is not None else []) + [PICTURE + SCALE, PICTURE] * blocks
    figure, grid = _make_figure(widths, [_height_of(record) for record in records])
    if first is not None:
        draw_image(grid[0, 0], first)
        grid[0, 0].set_title("found", fontsize=8)
        grid = grid[:, 1:]
    for line, row, record, title in zip(grid, rows, records, titles, strict=True):
        cells = iter(line)
        for block, attention in row.items():
            left, right = next(cells), next(cells)
            if attention is None:
                _draw_rois(left, right, record)
                left.set_title(f"{title}\n{_short(block)}: no RoI contains this point", fontsize=8)
                continue
            alike = scores and attention.scores is not None
            (heat_of_scores if alike else heat)(left, record.image, attention)
            arrows(right, record.image, attention, box=_find_object(record, attention))
            doubt = ", untrained" if attention.untrained else ""
            left.set_title(f"{title}\n{_short(block)}, {attention.form}{doubt}", fontsize=8)
            right.set_title(facts(record, attention), fontsize=8)
    return figure


def facts(record: AttentionRecord, attention: Attention) -> str:
    """Mean distance, and the share of the weights outside the object, whose box a panel shows.

    The object is the highest-scoring detection that contains the point.
    """
    summary = f"mean distance {mean_distance(attention):.0f} px"
    box = _find_object(record, attention)
    if box is None:
        return summary
    outside = max(1 - share(attention, box), 0.0)  # rounding: no "-0 %"
    return f"{summary}\n{100 * outside:.0f} % outside the object's box"


def summary(record: AttentionRecord, blocks: Sequence[str]) -> Figure:
    """Make a figure with the mean weight that positions receive and the entropy of their weights.

    It has one row per block.
    """
    found = {block: record.summary(block) for block in blocks}
    found = {block: s for block, s in found.items() if s is not None}
    figure, grid = _make_figure([PICTURE + SCALE] * 2, [_height_of(record)] * max(len(found), 1))
    for (received, entropy), (block, s) in zip(grid, found.items(), strict=False):
        _summary(received, record.image, s.received * s.received.size, s.received_grid, None)
        name = _short(block) + (", untrained" if record.untrained(block) else "")
        received.set_title(f"{name}\nmean weight received / uniform weight", fontsize=8)
        most = float(np.log(s.received.size))
        _summary(entropy, record.image, s.entropy, s.entropy_grid, most)
        entropy.set_title(f"entropy of the weights, nats; uniform: {most:.1f}", fontsize=8)
    return figure


def as_image(figure: Figure, dpi: int = 100) -> np.ndarray:
    """The figure as RGB uint8 (H,W,3)."""
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _find_object(record: AttentionRecord, attention: Attention) -> list[float] | None:
    """Box of the highest-scoring detection that contains x_i."""
    boxes = _list_boxes(record)
    return next((box for box in boxes if holds(box, *attention.point)), None)


def _list_boxes(record: AttentionRecord) -> list[list[float]]:
    """Boxes of the detections; none if the model finds no instances."""
    found = record.instances
    return found.pred_boxes.tensor.tolist() if found.has("pred_boxes") else []


def _draw_rois(left: Axes, right: Axes, record: AttentionRecord) -> None:
    """Where a head looks instead: the image, and its detections' boxes."""
    for axes in (left, right):
        draw_image(axes, record.image)
    boxes = _list_boxes(record)
    for box in boxes:
        draw_box(right, box)
    right.set_title(f"{len(boxes)} detections" if boxes else "nothing detected", fontsize=8)


def _short(block: str) -> str:
    """The last two parts of a module's name, such as res4.nonlocal4."""
    return ".".join(block.split(".")[-2:])


def _height_of(record: AttentionRecord) -> float:
    """Inches of a picture's height."""
    height, width = record.image.shape[:2]
    return PICTURE * min(height / width, HIGHEST)


def _make_figure(widths: Sequence[float], heights: Sequence[float]) -> tuple[Figure, np.ndarray]:
    """Make a figure of axes (rows, columns) as large as the pictures, with room for titles.

    It is made without pyplot, which would keep it until it is closed.

    Args:
        widths: inches of each column: a picture, or one with a colour bar.
        heights: inches of each row's pictures.
    """
    width = sum(widths) + GAP * (len(widths) + 1)
    height = sum(heights) + (TITLE + GAP) * len(heights)
    figure = Figure(figsize=(width, height))
    grid = np.empty((len(heights), len(widths)), dtype=object)
    top = height
    for row, tall in enumerate(heights):
        top -= TITLE
        left = GAP
        for column, wide in enumerate(widths):
            box = (left / width, (top - tall) / height, PICTURE / width, tall / height)
            grid[row, column] = figure.add_axes(box)
            grid[row, column].axis("off")
            left += wide + GAP
        top -= tall + GAP
    return figure, grid


def _summary(axes: Axes, image: np.ndarray, values, grid: Grid, most) -> None:
    norm = Normalize(0, most if most else max(values.max(), 1e-12))
    flipped = (grid.step[0] < 0, grid.step[1] < 0)
    shown = draw_map(axes, image, values, grid.box, flipped, "cividis", norm)
    add_scale(axes, shown)
