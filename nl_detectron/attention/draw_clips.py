"""Matplotlib figures of attention across the frames of a clip, as the paper's Figure 3: the frames
side by side, with arrows from x_i to its strongest x_j in any frame."""

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from .clips import ClipAttention
from .maps import ARROWS, add_scale, draw_arrow, draw_point, full_weight, heat_scale, overlay

MOST_FRAMES = 8  # side by side
GAP, WIDE_GAP = 0.03, 0.1  # between frames of one position in time, and of two; by their width
WIDEST = 16.0  # of the frames of a row, in inches
LARGEST = 2.4  # of a frame's longer side, in inches


def clip_panel(
    clip: Tensor,
    attentions: Sequence[ClipAttention],
    titles: Sequence[str],
    numbers: Sequence[int] | None = None,
) -> Figure:
    """Make a figure with two rows for each attention: arrows, and the weights over the frames.

    Args:
        clip: RGB uint8 (3,T,H,W), which the attentions are of.
        attentions: of any points and blocks.
        titles: one for each.
        numbers: of the clip's T frames in their video, which stand above them; by default 0 to T-1.
    """
    height, width = clip.shape[2:]
    most = max(len(choose_frames(found, clip.shape[1])) for found in attentions)
    cell = min(LARGEST * min(width / height, 1), WIDEST / most)  # a frame's width
    size = (most * cell * (1 + WIDE_GAP) + 0.9, len(attentions) * (2 * cell * height / width + 1))
    figure = Figure(figsize=size, layout="constrained")  # pyplot would keep it until it is closed
    grid = figure.subplots(2 * len(attentions), 1, squeeze=False)
    for number, (found, title) in enumerate(zip(attentions, titles, strict=True)):
        above, below = grid[2 * number, 0], grid[2 * number + 1, 0]
        for axes in (above, below):
            axes.axis("off")
        clip_arrows(above, clip, found, numbers=numbers)
        clip_heat(below, clip, found)
        above.set_title(f"{title}\n{describe(found)}", fontsize=8, loc="left")
    return figure


def clip_arrows(
    axes: Axes,
    clip: Tensor,
    attention: ClipAttention,
    count: int = ARROWS,
    numbers: Sequence[int] | None = None,
) -> None:
    """Draw frames side by side, with arrows from x_i to the x_j with the largest weights.

    Larger weights have wider arrows, negative weights dotted ones. Frame numbers are as in
    :func:`clip_panel`.
    """
    total, height, width = clip.shape[1:]
    lefts = _place(choose_frames(attention, total, count), attention, total, width)
    for frame, left in lefts.items():
        image = clip[:, frame].permute(1, 2, 0).numpy()
        axes.imshow(image, extent=(left, left + width, height, 0))
        label = numbers[frame] if numbers is not None else frame
        below = {"xytext": (0, -3), "textcoords": "offset points", "ha": "center", "va": "top"}
        axes.annotate(f"{label}", (left + width / 2, height), **below, fontsize=7)
    found = [arrow for arrow in attention.strongest(count) if arrow[0] in lefts]
    mean = float(np.abs(attention.weights).sum() / attention.seen)
    full = full_weight(mean, [weight for *_, weight in found])
    frame, x, y = attention.point
    point = (lefts[frame] + x, y)
    for frame, x, y, weight in reversed(found):  # the largest on top
        draw_arrow(axes, point, (lefts[frame] + x, y), weight, full)
    draw_point(axes, point)
    axes.set(xlim=(0, max(lefts.values()) + width), ylim=(height, 0))


def clip_heat(axes: Axes, clip: Tensor, attention: ClipAttention) -> None:
    """Draw the weights over the frames, as multiples of the uniform weight 1/M of the M
    positions that x_i sees, with a colour bar."""
    total, height, width = clip.shape[1:]
    lefts = _place(choose_frames(attention, total), attention, total, width)
    even = attention.seen * attention.weights
    cmap, norm = heat_scale(float(np.abs(even).max()), attention.signed)
    shown = None
    for frame, left in lefts.items():
        image = clip[:, frame].permute(1, 2, 0).numpy()
        axes.imshow(image, extent=(left, left + width, height, 0))
        x0, y0, x1, y1 = attention.grid.box
        values = even[_part(frame, attention, total)]
        shown = overlay(axes, values, (left + x0, y0, left + x1, y1), cmap, norm)
    frame, x, y = attention.point
    draw_point(axes, (lefts[frame] + x, y))
    axes.set(xlim=(0, max(lefts.values()) + width), ylim=(height, 0))
    if shown is not None:
        add_scale(axes, shown, "weight / uniform weight")


def choose_frames(attention: ClipAttention, total: int, count: int = ARROWS) -> list[int]:
    """The frames to draw, in order: all of a clip of up to :data:`MOST_FRAMES`; of a longer one
    the middle ones of all positions x_j in time or, if these are too many, that of x_i and those
    with the most weight of the arrows.

    Args:
        total: number of the clip's frames.
    """
    if total <= MOST_FRAMES:
        return list(range(total))
    if len(attention.frames) <= MOST_FRAMES:
        return list(attention.frames)
    weights = dict.fromkeys(attention.frames, 0.0)
    for frame, _, _, weight in attention.strongest(count):
        weights[frame] += abs(weight)
    weights[attention.point[0]] = np.inf
    return sorted(sorted(weights, key=lambda frame: -weights[frame])[:MOST_FRAMES])


def describe(attention: ClipAttention) -> str:
    """The block, its form, and how much of the weight lies in other frames than that of x_i."""
    block = ".".join(attention.block.split(".")[-2:])
    sizes = np.abs(attention.weights).sum(axis=(1, 2))
    own = sizes[attention.frames.index(attention.point[0])]
    elsewhere = 1 - own / max(sizes.sum(), 1e-12)
    return f"{block}, {attention.form}: {100 * max(elsewhere, 0.0):.0f} % in other frames"


def _part(frame: int, attention: ClipAttention, total: int) -> int:
    """The position in time that a frame of a clip of ``total`` frames belongs to."""
    return frame * len(attention.frames) // total


def _place(
    frames: Sequence[int], attention: ClipAttention, total: int, width: int
) -> dict[int, float]:
    """Where each frame begins along x; those of one position in time stand closer together."""
    lefts = {frames[0]: 0.0}
    for before, frame in itertools.pairwise(frames):
        alike = _part(before, attention, total) == _part(frame, attention, total)
        lefts[frame] = lefts[before] + width * (1 + (GAP if alike else WIDE_GAP))
    return lefts
