"""Matplotlib figures of attention, like the paper's Figures 1 and 3.

The colour maps are safe for colour-blind readers: cividis, and a diverging map for signed weights.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from .geometry import Grid
from .metrics import mean_distance, share, strongest
from .record import Attention, AttentionRecord, holds

POINT = "#D55E00"  # vermilion, visible on greys and on both colour maps
HIGHEST = 15  # height of a picture by its width; Matplotlib cannot draw text in a higher figure
FAINT = 0.55  # opacity of the heat map over the image
MOST_WIDTH, LEAST_WIDTH = 4.0, 0.5  # largest and smallest width of arrows, in points
ARROWS = 20  # as in Figure 3


def heat(axes: Axes, image: np.ndarray, attention: Attention) -> None:
    """Draw the weights over the grey image, as multiples of the uniform weight 1/M.

    Signed weights use a diverging colour map centred at zero. A colour bar shows the scale.
    """
    even = attention.weights.size * attention.weights
    cmap, norm = heat_scale(even, attention.signed)
    shown = _over(axes, image, even, attention.grid.box, _flipped(attention), cmap, norm)
    _mark(axes, attention)
    scale_bar(axes, shown, "weight / uniform weight")


def heat_of_scores(axes: Axes, image: np.ndarray, attention: Attention) -> None:
    """Draw the scores log f(x_i, x_j) of a softmax function over the grey image.

    Raises:
        ValueError: the pairwise function is not a softmax and has no scores.
    """
    if attention.scores is None:
        raise ValueError(f"expected a softmax form, which has scores, got {attention.form}")
    low, high = np.percentile(attention.scores, (1, 99.5))  # x_i itself would dominate the scale
    norm = Normalize(low, max(high, low + 1e-12))
    grid = attention.grid
    shown = _over(axes, image, attention.scores, grid.box, _flipped(attention), "cividis", norm)
    _mark(axes, attention)
    scale_bar(axes, shown, "score, log f")


def arrows(axes: Axes, image: np.ndarray, attention: Attention, count: int = ARROWS) -> None:
    """Draw arrows from x_i to the x_j with the largest weights.

    Larger weights have wider arrows, negative weights dotted ones.
    """
    _image(axes, image)
    found = strongest(attention, count)
    most = max(abs(weight) for *_, weight in found) or 1.0
    for x, y, weight in reversed(found):  # the largest on top
        draw_arrow(axes, attention.point, (x, y), weight, most)
    _mark(axes, attention)


def draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], weight: float, most: float
) -> None:
    """Draw one arrow, whose width is that of the weight by the largest one; dotted if negative."""
    axes.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "lw": max(MOST_WIDTH * abs(weight) / most, LEAST_WIDTH),
            "ls": "-" if weight >= 0 else ":",
            "color": "#F0E442" if weight >= 0 else "#CC79A7",
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def draw_point(axes: Axes, point: tuple[float, float], zorder: float = 2) -> None:
    """Mark x_i."""
    axes.plot(*point, marker="o", ms=7, mfc=POINT, mec="white", mew=1.5, zorder=zorder)


def heat_scale(even: np.ndarray, signed: bool) -> tuple[str, Normalize]:
    """Colour map and scale of weights, which are centred at zero for signed ones."""
    if signed:
        most = np.abs(even).max()
        return "PuOr", TwoSlopeNorm(0, -most, most)
    return "cividis", Normalize(0, max(even.max(), 1e-12))


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
    columns = 2 * max(len(row) for row in rows) + (first is not None)
    height, width = records[0].image.shape[:2]
    cell = 3.6  # inches: room for the titles
    size = (columns * cell, len(rows) * (cell * min(height / width, HIGHEST) + 0.9))
    figure, grid = make_figure(len(rows), columns, size)
    for axes in grid.flat:
        axes.axis("off")
    if first is not None:
        _image(grid[0, 0], first)
        grid[0, 0].set_title("found", fontsize=8)
        grid = grid[:, 1:]
    for line, row, record, title in zip(grid, rows, records, titles, strict=True):
        cells = iter(line)
        for block, attention in row.items():
            left, right = next(cells), next(cells)
            if attention is None:
                left.set_title(f"{title}\n{_short(block)}: no RoI contains this point", fontsize=8)
                continue
            alike = scores and attention.scores is not None
            (heat_of_scores if alike else heat)(left, record.image, attention)
            arrows(right, record.image, attention)
            left.set_title(f"{title}\n{_short(block)}, {attention.form}", fontsize=8)
            right.set_title(facts(record, attention), fontsize=8)
    return figure


def facts(record: AttentionRecord, attention: Attention) -> str:
    """Mean distance, and the share of the weights outside the object.

    The object is the highest-scoring detection that contains the point.
    """
    summary = f"mean distance {mean_distance(attention):.0f} px"
    for box in record.instances.pred_boxes.tensor.tolist() if len(record.instances) else []:
        if holds(box, *attention.point):
            outside = max(1 - share(attention, box), 0.0)  # rounding: no "-0 %"
            return f"{summary}\n{100 * outside:.0f} % outside the object's box"
    return summary


def summary(record: AttentionRecord, blocks: Sequence[str]) -> Figure:
    """Make a figure with the mean weight that positions receive and the entropy of their weights.

    It has one row per block.
    """
    found = {block: record.summary(block) for block in blocks}
    found = {block: s for block, s in found.items() if s is not None}
    height, width = record.image.shape[:2]
    figure, grid = make_figure(
        max(len(found), 1),
        2,
        (8.4, max(len(found), 1) * (3.8 * min(height / width, HIGHEST) + 0.9)),
    )
    for axes in grid.flat:
        axes.axis("off")
    for (received, entropy), (block, s) in zip(grid, found.items(), strict=False):
        _summary(received, record.image, s.received * s.received.size, s.received_grid, None)
        received.set_title(f"{_short(block)}\nmean weight received / uniform weight", fontsize=8)
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


def _short(block: str) -> str:
    """The last two parts of a module's name, such as res4.nonlocal4."""
    return ".".join(block.split(".")[-2:])


def make_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, np.ndarray]:
    """Make a figure without pyplot, which would keep it until it is closed."""
    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _summary(axes: Axes, image: np.ndarray, values, grid: Grid, most) -> None:
    norm = Normalize(0, most if most else max(values.max(), 1e-12))
    flipped = (grid.step[0] < 0, grid.step[1] < 0)
    shown = _over(axes, image, values, grid.box, flipped, "cividis", norm)
    scale_bar(axes, shown)


def _over(axes: Axes, image: np.ndarray, values: np.ndarray, box, flipped, cmap, norm):
    """Draw a map over the grey image, without the part on padding."""
    if flipped[0]:
        values = values[:, ::-1]
    if flipped[1]:
        values = values[::-1]
    shown = over_grey(axes, image, values, box, cmap, norm)
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    return shown


def over_grey(
    axes: Axes,
    image: np.ndarray,
    values: np.ndarray,
    box: Sequence[float],
    cmap: str,
    norm: Normalize,
    left: float = 0.0,
) -> AxesImage:
    """Draw a map of a box (x0, y0, x1, y1) over the grey image, which begins at x ``left``."""
    height, width = image.shape[:2]
    x0, y0, x1, y1 = box
    extent = (left, left + width, height, 0)
    axes.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=255, extent=extent)
    return axes.imshow(
        values,
        cmap=cmap,
        norm=norm,
        alpha=FAINT,
        extent=(left + x0, left + x1, y1, y0),
        interpolation="bilinear",
    )


def scale_bar(axes: Axes, shown: AxesImage, label: str = "") -> None:
    """Add a colour bar beside the picture, with the same height."""
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes((1.02, 0, 0.03, 1)))
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7)


def _image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))


def _flipped(attention: Attention) -> tuple[bool, bool]:
    return attention.grid.step[0] < 0, attention.grid.step[1] < 0


def _mark(axes: Axes, attention: Attention) -> None:
    draw_point(axes, attention.point)
    if attention.box:
        x0, y0, x1, y1 = attention.box
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color="white", lw=1)
