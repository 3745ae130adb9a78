"""What can be said of a map in numbers, and what a block does without some of its positions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from ..layers import NonLocalBlock
from .view import Attention

LEAST = 1e-3  # of the greatest weight: fainter ones are no look
Box = Sequence[float]  # x0, y0, x1, y1 in pixels of the image


def share(attention: Attention, box: Box, what: str = "weights") -> float:
    """The part, 0 to 1, that falls on a box; of a cell that it covers in part, as much.

    Args:
        what: ``weights`` (signed ones by their size) or ``contributions``.
    """
    sizes = np.abs(getattr(attention, what))
    return float((sizes * attention.grid.covered(box)).sum() / max(sizes.sum(), 1e-12))


def area_share(attention: Attention, box: Box) -> float:
    """The part of the positions' area on a box: what an even look would give :func:`share`."""
    return float(attention.grid.covered(box).mean())


def mean_distance(attention: Attention) -> float:
    """Mean distance in pixels of x_j from x_i, weighted by the weights' sizes."""
    away = np.linalg.norm(attention.grid.centres() - np.array(attention.point), axis=-1)
    sizes = np.abs(attention.weights)
    return float((sizes * away).sum() / max(sizes.sum(), 1e-12))


def strongest(attention: Attention, count: int = 20) -> list[tuple[float, float, float]]:
    """x, y and weight of the positions of the greatest weights by size, the greatest first.

    There are fewer where the others have less than a thousandth of the greatest.
    """
    sizes = np.abs(attention.weights)
    order = np.argsort(-sizes, axis=None, kind="stable")[:count]
    order = order[sizes.ravel()[order] >= LEAST * sizes.max()]
    rows, columns = np.unravel_index(order, sizes.shape)
    centres = attention.grid.centres()[rows, columns]
    weights = attention.weights[rows, columns]
    return [(float(x), float(y), float(w)) for (x, y), w in zip(centres, weights, strict=True)]


@contextmanager
def without(block: NonLocalBlock, left_out: np.ndarray | Tensor) -> Iterator[None]:
    """Within it the block sums over the other positions alone, renormalised: C(x) is of those.

    Args:
        left_out: bool (M,) or in the shape of the positions, such as a map's.

    Raises:
        ValueError: no position would be left.
    """
    keep = ~torch.as_tensor(left_out, dtype=torch.bool).flatten()
    if not keep.any():
        raise ValueError(f"expected some positions to be left of {keep.numel()}, got all left out")

    def fewer(_, args: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        theta, phi, g = args
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
