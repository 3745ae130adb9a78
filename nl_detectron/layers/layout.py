"""Memory layouts and dtypes: positions as rows of a matrix, without unnecessary copies.

Inside a block, a tensor of positions is (B,N,C) in one of two layouts, which BLAS reads equally
fast: with contiguous channels (from a channels-last image) or with contiguous positions (from a
contiguous image). A sum is written in the layout of g, so W_z y has the layout of x and nothing is
converted. On the CPU, adding two tensors of different layouts takes as long as one of the block's
matrix products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def to_channels_last(x: Tensor) -> Tensor:
    """x (B,C,S) with contiguous channels; unchanged if S has one dimension."""
    if x.dim() in CHANNELS_LAST:
        return x.contiguous(memory_format=CHANNELS_LAST[x.dim()])
    return x


def to_rows(x: Tensor) -> Tensor:
    """(B,C,S) to (B,N,C), one row per position; a view if x is dense."""
    return x.flatten(2).transpose(1, 2)


def to_image(rows: Tensor, space: Sequence[int]) -> Tensor:
    """(B,N,C) to (B,C,S), a view."""
    return rows.transpose(1, 2).unflatten(2, space)


def has_channels_first(rows: Tensor) -> bool:
    """Whether the positions, and not the channels, of (B,N,C) are contiguous."""
    return rows.stride(1) == 1 and rows.stride(2) != 1


def matmul_like(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """a (B,N,M) times b (B,M,E), written in the layout of ``like`` (B,...,E)."""
    if has_channels_first(like):
        return (b.transpose(1, 2) @ a.transpose(1, 2)).transpose(1, 2)
    return a @ b


def empty_like(rows: Tensor, n: int, like: Tensor) -> Tensor:
    """Uninitialised (B,n,E) with the dtype, channels and layout of ``like`` (B,...,E)."""
    b, e = rows.shape[0], like.shape[2]
    if has_channels_first(like):
        return like.new_empty(b, e, n).transpose(1, 2)
    return like.new_empty(b, n, e)


def to_float32(x: Tensor) -> Tensor:
    """x in float32, or unchanged if it is float64."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
