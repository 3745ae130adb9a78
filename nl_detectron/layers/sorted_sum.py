"""The sum of the concatenation function without a matrix of all pairs.

y_i = sum_j ReLU(a_i + b_j) g_j. With the positions j in descending order of b, those with a
positive a_i + b_j are the first k_i. Hence y_i = a_i G[k_i] + H[k_i], where G and H are the prefix
sums of g and of b g. For N x M pairs this takes O(M log M + (N + M) E) time and O((N + M) E)
memory.

The backward pass is the same sum with i and j exchanged, dg_j = sum_i ReLU(a_i + b_j) dy_i. It
needs no scatter operation, and no atomic addition makes its result depend on the order of threads.
"""

import math

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .graphs import is_exporting, is_in_graph
from .layout import has_channels_first

BLOCK = 32  # largest number of rows that one matrix product sums


def sorted_relu_sum(a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """sum_j ReLU(a_i + b_j) g_j, exactly, differentiable in a, b and g, in the layout of g.

    Where a_i + b_j is zero, the gradient is zero, like ReLU's. The function cannot be
    differentiated twice.

    Args:
        a: (B,N).
        b: (B,M).
        g: (B,M,E).

    Returns:
        (B,N,E).
    """
    if is_exporting():  # a graph has no backward pass
        return _relu_sum(a, b, g)[0]
    return _SortedReluSum.apply(a, b, g)


class _SortedReluSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor, g: Tensor) -> Tensor:
        ctx.save_for_backward(a, b, g)
        return _relu_sum(a, b, g)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, b, g = ctx.saved_tensors
        dg, dy_seen = _relu_sum(b, a, dy)
        (g_seen,) = _sum_seen(a, b, g)
        return (dy * g_seen).sum(2), (g * dy_seen).sum(2), dg


def _relu_sum(a: Tensor, b: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
    """sum_j ReLU(a_i + b_j) g_j, and the sum of those g_j with a_i + b_j > 0: (B,N,E) each."""
    # Centred, with a + b unchanged: an offset of opposite sign in a and b would cancel in a G + H
    # and cost precision.
    centre = b.mean(dim=1, keepdim=True)
    sum_of_g, sum_of_bg = _sum_seen(a, b, g, (b - centre)[:, :, None] * g)
    y = (a + centre)[:, :, None] * sum_of_g + sum_of_bg
    return y if has_channels_first(g) else y.contiguous(), sum_of_g


def _sum_seen(a: Tensor, b: Tensor, *values: Tensor) -> list[Tensor]:
    """For each of the values (B,M,E), its sum over the j with a_i + b_j > 0, (B,N,E)."""
    ordered, order = b.sort(dim=1, descending=True)
    seen = torch.searchsorted(-ordered, a.contiguous())  # k_i, the number of b_j > -a_i
    sums = []
    for value in values:
        if value.is_cuda or has_channels_first(
            value
        ):  # a GPU scans the inner dimension in parallel
            turned = _take_columns(value.transpose(1, 2), order)
            prefix_sums = F.pad(turned, (1, 0)).cumsum(dim=2)
            sums.append(_take_columns(prefix_sums, seen).transpose(1, 2))
        else:
            prefix_sums = F.pad(_prefix_sums(_take_rows(value, order)), (0, 0, 1, 0))
            sums.append(_take_rows(prefix_sums, seen))
    return sums


def _take_columns(x: Tensor, index: Tensor) -> Tensor:
    """x (B,E,M) at index (B,N), (B,E,N)."""
    return x.gather(2, index[:, None].expand(-1, x.shape[1], -1))


def _take_rows(x: Tensor, index: Tensor) -> Tensor:
    """x (B,M,E) at index (B,N), (B,N,E), by an embedding look-up, which copies whole rows."""
    first_row = torch.arange(x.shape[0])[:, None] * x.shape[1]
    return F.embedding(index + first_row, x.flatten(0, 1))


def _prefix_sums(x: Tensor) -> Tensor:
    """Sums of the first 1, 2, ... M rows of x (B,M,E).

    Within blocks of rows, a matrix product computes the sums, several times as fast as cumsum.
    """
    if is_in_graph():  # the number of blocks depends on M
        return x.cumsum(dim=1)
    rows = x.shape[1]
    blocks = math.ceil(rows / BLOCK)
    block = math.ceil(rows / blocks)  # of equal size, so that little is padded
    lower = x.new_ones(block, block).tril()
    padded = F.pad(x, (0, 0, 0, blocks * block - rows))
    sums = lower @ padded.unflatten(1, (blocks, block))
    sums[:, 1:] += sums[:, :-1, -1:].cumsum(dim=1)
    return sums.flatten(1, 2)[:, :rows]
