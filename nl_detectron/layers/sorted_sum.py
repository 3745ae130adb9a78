"""The concatenation form's sum over pairs without the pairs.

y_i = sum_j ReLU(a_i + b_j) g_j. With the positions j in descending order of b, those that position
i sees are the first k_i, so that y_i = a_i G[k_i] + H[k_i], where G and H are the prefix sums of g
and of b g: O(M log M + (N + M) E) in time and O((N + M) E) in memory, for N x M pairs.
"""

import torch
from torch import Tensor


def sorted_relu_sum(a: Tensor, b: Tensor, g: Tensor) -> Tensor:
    """sum_j ReLU(a_i + b_j) g_j, exactly, with gradients to a, b and g.

    Where a_i + b_j is zero the gradient is zero, as ReLU's.

    Args:
        a: (B,N).
        b: (B,M).
        g: (B,M,E).

    Returns:
        (B,N,E).
    """
    b, order = b.sort(dim=1, descending=True)
    g = g.gather(1, order[:, :, None].expand_as(g))
    seen = torch.searchsorted(-b.detach(), a.detach().contiguous())  # k_i: how many b_j > -a_i
    # a + b stays as it is; a part that a and b share would cancel in a G + H at the cost of digits
    centre = b.detach().mean(dim=1, keepdim=True)
    a, b = a + centre, b - centre
    at = seen[:, :, None].expand(-1, -1, g.shape[2])
    sums_of_g, sums_of_bg = _prefix_sums(g), _prefix_sums(b[:, :, None] * g)
    return a[:, :, None] * sums_of_g.gather(1, at) + sums_of_bg.gather(1, at)


def _prefix_sums(x: Tensor) -> Tensor:
    """(B,M,E) to (B,M+1,E), from zero to the sum of all M."""
    return torch.nn.functional.pad(x, (0, 0, 1, 0)).cumsum(dim=1)
