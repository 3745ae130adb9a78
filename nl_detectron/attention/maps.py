"""Attention drawn on one pair of Matplotlib axes: heat, scores, arrows.

The colour maps are safe for colour-blind readers: cividis, and a diverging map for signed weights.
"""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.image import AxesImage

from .metrics import FLAT, above_uniform, is_flat, peak
from .record import Attention

POINT = "#D55E00"  # vermilion, visible on greys and on both colour maps
FAINT = 0.45  # opacity of a map over the image, whose colours stay recognisable
WIDTH, LEAST_WIDTH = 4.0, 0.7  # of arrows, in points: the full one, and the least
FULL = 8  # multiple of the uniform weight from which an arrow may have the full width
ARROWS = 20  # as in the paper's Figure 3


def heat(axes: Axes, image: np.ndarray, attention: Attention) -> None:
    """Draw the weights over the image, as multiples of the uniform weight 1/M.

    A colour bar shows the scale. Nearly even weights keep to the lower half of theirs. Signed
    weights use a diverging colour map centred at zero.
    """
    even = attention.weights.size * attention.weights
    most = np.abs(even).max()
    if is_flat(attention):
        most = 2 * FLAT * np.abs(even).mean()
    cmap, norm = heat_scale(most, attention.signed)
    shown = draw_map(axes, image, even, attention.grid.box, _flipped(attention), cmap, norm)
    mark(axes, attention)
    add_scale(axes, shown, "weight / uniform weight")


def heat_of_scores(axes: Axes, image: np.ndarray, attention: Attention) -> None:
    """Draw the scores log f(x_i, x_j) of a softmax function over the image.

    Raises:
        ValueError: the pairwise function is not a softmax and has no scores.
    """
    if attention.scores is None:
        raise ValueError(f"expected a softmax form, which has scores, got {attention.form}")
    low, high = np.percentile(attention.scores, (1, 99.5))  # x_i itself would dominate the scale
    norm = Normalize(low, max(high, low + 1e-12))
    box, flipped = attention.grid.box, _flipped(attention)
    shown = draw_map(axes, image, attention.scores, box, flipped, "cividis", norm)
    mark(axes, attention)
    add_scale(axes, shown, "score, log f")


def arrows(
    axes: Axes,
    image: np.ndarray,
    attention: Attention,
    count: int = ARROWS,
    box: Sequence[float] | None = None,
) -> None:
    """Draw arrows from x_i to the x_j with the largest weights, if they are more than uniform.

    Larger weights have wider arrows, negative weights dotted ones. Where the weights are nearly
    even there are no arrows, and a note says so.

    Args:
        count: of arrows, at most.
        box: x0, y0, x1, y1 of the object that x_i belongs to.
    """
    draw_image(axes, image)
    found = above_uniform(attention, count)
    mean = float(np.abs(attention.weights).mean())
    full = full_weight(mean, [weight for *_, weight in found])
    for x, y, weight in reversed(found):  # the largest on top
        draw_arrow(axes, attention.point, (x, y), weight, full)
    if box is not None:
        draw_box(axes, box)
    mark(axes, attention)
    if text := describe_doubt(attention):
        _add_note(axes, text)


def full_weight(mean: float, weights: Sequence[float]) -> float:
    """The weight whose arrow has the full width: at least :data:`FULL` times the mean one."""
    return max(FULL * mean, *map(abs, weights), 1e-12)


def draw_arrow(
    axes: Axes, start: tuple[float, float], end: tuple[float, float], weight: float, full: float
) -> None:
    """Draw one arrow, as wide as the weight is of the ``full`` one; dotted if it is negative."""
    axes.annotate(
        "",
        end,
        start,
        arrowprops={
            "arrowstyle": "-|>",
            "lw": max(WIDTH * abs(weight) / full, LEAST_WIDTH),
            "ls": "-" if weight >= 0 else ":",
            "color": "#F0E442" if weight >= 0 else "#CC79A7",
            "shrinkA": 0,
            "shrinkB": 0,
        },
    )


def heat_scale(most: float, signed: bool) -> tuple[str, Normalize]:
    """Colour map and scale of weights up to ``most``, centred at zero for signed ones."""
    most = max(most, 1e-12)
    return ("PuOr", TwoSlopeNorm(0, -most, most)) if signed else ("cividis", Normalize(0, most))


def describe_doubt(attention: Attention) -> str:
    """Why a picture shows little: an untrained block, or weights that are nearly even; or ""."""
    parts = ["untrained block"] if attention.untrained else []
    if not attention.weights.any():
        parts.append("all weights are zero")
    elif is_flat(attention):
        parts.append(f"nearly even: at most {peak(attention):.1f} times uniform")
    return ", ".join(parts)


def draw_map(
    axes: Axes, image: np.ndarray, values: np.ndarray, box, flipped, cmap, norm
) -> AxesImage:
    """Draw a map over the image, without the part on padding."""
    draw_image(axes, image)
    if flipped[0]:
        values = values[:, ::-1]
    if flipped[1]:
        values = values[::-1]
    shown = overlay(axes, values, box, cmap, norm)
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))
    return shown


def overlay(
    axes: Axes, values: np.ndarray, box: Sequence[float], cmap: str, norm: Normalize
) -> AxesImage:
    """Lay a map over the box (x0, y0, x1, y1) of what is drawn already."""
    x0, y0, x1, y1 = box
    extent = (x0, x1, y1, y0)
    return axes.imshow(
        values, cmap=cmap, norm=norm, alpha=FAINT, extent=extent, interpolation="bilinear"
    )


def add_scale(axes: Axes, shown: AxesImage, label: str = "") -> None:
    """Add a colour bar beside the picture, with the same height."""
    bar = axes.figure.colorbar(shown, cax=axes.inset_axes((1.02, 0, 0.03, 1)))
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7)


def draw_image(axes: Axes, image: np.ndarray) -> None:
    axes.imshow(image, extent=(0, image.shape[1], image.shape[0], 0))
    axes.set(xlim=(0, image.shape[1]), ylim=(image.shape[0], 0))


def draw_box(axes: Axes, box: Sequence[float]) -> None:
    """Draw the outline of a box (x0, y0, x1, y1), white on black: visible on any image."""
    x0, y0, x1, y1 = box
    for colour, width in (("black", 2.5), ("white", 1)):
        axes.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=colour, lw=width)


def mark(axes: Axes, attention: Attention) -> None:
    """Mark x_i and, for a block in a head, its RoI."""
    if attention.box:
        draw_box(axes, attention.box)
    draw_point(axes, attention.point)


def draw_point(axes: Axes, point: tuple[float, float]) -> None:
    """Mark x_i, above its arrows."""
    axes.plot(*point, marker="o", ms=7, mfc=POINT, mec="white", mew=1.5, zorder=4)


def _flipped(attention: Attention) -> tuple[bool, bool]:
    return attention.grid.step[0] < 0, attention.grid.step[1] < 0


def _add_note(axes: Axes, text: str) -> None:
    axes.text(
        0.5,
        0.04,
        text,
        transform=axes.transAxes,
        ha="center",
        va="bottom",
        fontsize=8,
        color="white",
        bbox={"boxstyle": "round", "facecolor": "black", "edgecolor": "none", "alpha": 0.75},
    )
