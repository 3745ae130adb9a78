"""Memory layouts and dtypes: positions as rows of a matrix, without a copy that need not be.

Inside a block a tensor of positions is (B,N,C), in one of two layouts that BLAS reads alike:
the channels of a position next to each other (from a channels-last image), or the positions of a
channel (from a contiguous one). A sum is written in the layout of g, so that W_z and the residual
meet x as it came, and nothing is converted on the way. On the CPU an addition of two layouts costs
as much as one of the block's matrix products.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def to_block_layout(x: Tensor) -> Tensor:
    """x (B,C,S) as the block works on it: channels-last on CUDA, one copy for three of the sum's
    inputs, which fused attention wants so, as do half-precision convs; elsewhere as it is."""
    if x.is_cuda and x.dim() in CHANNELS_LAST:
        return x.contiguous(memory_format=CHANNELS_LAST[x.dim()])
    return x


def to_rows(x: Tensor) -> Tensor:
    """(B,C,S) to (B,N,C), a row for each position: a view of any dense x."""
    return x.flatten(2).transpose(1, 2)


def to_image(rows: Tensor, space: Sequence[int]) -> Tensor:
    """(B,N,C) to (B,C,S): a view."""
    return rows.transpose(1, 2).unflatten(2, space)


def has_channels_first(rows: Tensor) -> bool:
    """Whether the positions of a channel lie next to each other in (B,N,C)."""
    return rows.stride(1) == 1 and rows.stride(2) != 1


def matmul_like(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """a (B,N,M) times b (B,M,E), written in the layout of ``like`` (B,...,E)."""
    if has_channels_first(like):
        return (b.transpose(1, 2) @ a.transpose(1, 2)).transpose(1, 2)
    return a @ b


def empty_like(rows: Tensor, n: int, like: Tensor) -> Tensor:
    """Memory for (B,n,E), of the dtype, channels and layout of ``like`` (B,...,E)."""
    b, e = rows.shape[0], like.shape[2]
    if has_channels_first(like):
        return like.new_empty(b, e, n).transpose(1, 2)
    return like.new_empty(b, n, e)


def to_float32(x: Tensor) -> Tensor:
    """x in float32 at least: float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
