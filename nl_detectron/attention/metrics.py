"""Metrics of attention maps, and a block with some of its positions masked."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..layers import NonLocalBlock
from .record import Attention

LEAST = 1e-3  # of the largest weight; smaller weights are omitted
FLAT = 2.0  # the largest weight of nearly even ones is below this many times the mean
Box = Sequence[float]  # x0, y0, x1, y1 in pixels of the image


def share(attention: Attention, box: Box, what: str = "weights") -> float:
    """Share of the attention inside a box, 0 to 1; cells count by their area inside it.

    Args:
        what: ``weights`` (by absolute value) or ``contributions``.
    """
    sizes = np.abs(getattr(attention, what))
    return float((sizes * attention.grid.covered(box)).sum() / max(sizes.sum(), 1e-12))


def area_share(attention: Attention, box: Box) -> float:
    """Share of the area inside a box: :func:`share` for uniform weights."""
    return float(attention.grid.covered(box).mean())


def mean_distance(attention: Attention) -> float:
    """Mean distance in pixels of x_j from x_i, weighted by the absolute weights."""
    away = np.linalg.norm(attention.grid.centres() - np.array(attention.point), axis=-1)
    sizes = np.abs(attention.weights)
    return float((sizes * away).sum() / max(sizes.sum(), 1e-12))


def strongest(attention: Attention, count: int = 20) -> list[tuple[float, float, float]]:
    """x, y and weight of the positions with the largest absolute weights, in descending order.

    Weights below a thousandth of the largest are omitted.
    """
    sizes = np.abs(attention.weights)
    order = np.argsort(-sizes, axis=None, kind="stable")[:count]
    order = order[sizes.ravel()[order] >= LEAST * sizes.max()]
    rows, columns = np.unravel_index(order, sizes.shape)
    centres = attention.grid.centres()[rows, columns]
    weights = attention.weights[rows, columns]
    return [(float(x), float(y), float(w)) for (x, y), w in zip(centres, weights, strict=True)]


def peak(attention: Attention) -> float:
    """The largest absolute weight over the mean weight: 1 for uniform weights (and for zeros), M
    if one position has all the weight. Positive and negative weights cancel in the mean."""
    most, mean = float(np.abs(attention.weights).max()), float(abs(attention.weights.mean()))
    if most == 0:
        return 1.0
    return most / mean if mean else float("inf")


def is_flat(attention: Attention) -> bool:
    """Whether the weights are nearly even: no position has :data:`FLAT` times the mean."""
    return peak(attention) < FLAT


def above_uniform(attention: Attention, count: int = 20) -> list[tuple[float, float, float]]:
    """Those of :func:`strongest` with more than the mean weight; none if the weights are flat."""
    if is_flat(attention):
        return []
    mean = float(np.abs(attention.weights).mean())
    return [found for found in strongest(attention, count) if abs(found[2]) > mean]


@contextmanager
def mask_positions(block: NonLocalBlock, left_out: np.ndarray | Tensor) -> Iterator[None]:
    """Context in which a block sums over the other positions only, with C(x) computed from them.

    Args:
        left_out: bool (M,), or in the shape of a map. As in a map, the padding of an image is not
            among the M positions if the block gets the sizes of its images.

    Raises:
        ValueError: every position is left out, the number of positions differs, or the images of a
            batch have different sizes.
    """
    keep = ~torch.as_tensor(left_out, dtype=torch.bool).flatten()
    if not keep.any():
        raise ValueError(f"expected some positions to be left of {keep.numel()}, got all left out")

    def fewer(_, args: tuple) -> tuple[Tensor, Tensor, Tensor]:
        theta, phi, g, valid = args
        if valid is not None:
            counted = ~valid.padding
            if (counted != counted[:1]).any():
                raise ValueError("expected images of one size, got several: give one at a time")
            phi, g = phi[:, counted[0]], g[:, counted[0]]
        if phi.shape[1] != keep.numel():
            raise ValueError(
                f"expected one value for each of {phi.shape[1]} positions, got {keep.numel()}"
            )
        kept = keep.to(phi.device)
        return theta, phi[:, kept], g[:, kept]

    handle = block.pairwise.register_forward_pre_hook(fewer)
    try:
        yield
    finally:
        handle.remove()
