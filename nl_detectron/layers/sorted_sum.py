"""The concatenation form's sum over pairs without the pairs.

y_i = sum_j ReLU(a_i + b_j) g_j. With the positions j in descending order of b, those that position
i sees are the first k_i, so that y_i = a_i G[k_i] + H[k_i], where G and H are the prefix sums of g
and of b g: O(M log M + (N + M) E) in time and O((N + M) E) in memory, for N x M pairs.

The backward pass is the same sum with i and j exchanged, dg_j = sum_i ReLU(a_i + b_j) dy_i, so that
nothing is scattered, and no atomic addition makes its result depend on the order of threads.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .layout import has_channels_first


def sorted_relu_sum(a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """sum_j ReLU(a_i + b_j) g_j, exactly, with gradients to a, b and g, in the layout of g.

    Where a_i + b_j is zero the gradient is zero, as ReLU's. It cannot be differentiated twice.

    Args:
        a: (B,N).
        b: (B,M).
        g: (B,M,E).

    Returns:
        (B,N,E).
    """
    if torch.jit.is_tracing() or torch.compiler.is_exporting():  # a graph has no backward pass
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
    # a + b stays as it is; a part that a and b share would cancel in a G + H at the cost of digits
    centre = b.mean(dim=1, keepdim=True)
    sum_of_g, sum_of_bg = _sum_seen(a, b, g, (b - centre)[:, :, None] * g)
    y = (a + centre)[:, :, None] * sum_of_g + sum_of_bg
    return y if has_channels_first(g) else y.contiguous(), sum_of_g


def _sum_seen(a: Tensor, b: Tensor, *values: Tensor) -> list[Tensor]:
    """For each of the values (B,M,E) its sum over the j with a_i + b_j > 0, (B,N,E)."""
    ordered, order = b.sort(dim=1, descending=True)
    seen = torch.searchsorted(-ordered, a.contiguous())  # k_i: how many b_j > -a_i
    sums = []
    for value in values:
        # A scan and look-ups along the inner dimension are several times faster, and a GPU's scan
        # is parallel there alone; on the CPU rows stay as they are, as turning them costs more.
        inner = value.is_cuda or has_channels_first(value)
        value = value.transpose(1, 2) if inner else value
        dim, other = (2, 1) if inner else (1, 2)
        shape = [-1, -1, -1]
        shape[other] = value.shape[other]
        value = value.gather(dim, order.unsqueeze(other).expand(shape))
        prefix_sums = F.pad(value, (1, 0) if inner else (0, 0, 1, 0)).cumsum(dim)  # from zero on
        found = prefix_sums.gather(dim, seen.unsqueeze(other).expand(shape))
        sums.append(found.transpose(1, 2) if inner else found)
    return sums
