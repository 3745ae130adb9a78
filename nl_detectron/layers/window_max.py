"""The block's 2x2 max pool, which keeps its input for the backward pass instead of int64 indices.

The block keeps this input for its convs anyway, so pooling needs no additional memory. The backward
pass computes the indices again.
"""

from functools import reduce

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .graphs import is_in_graph


class WindowMax(nn.Module):
    """The maximum over every two positions of a sequence, or every 2x2 positions of an image.

    A video keeps all frames (Sec. 3.3). An odd last row or column is dropped.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Pool x (B,C,W), (B,C,H,W) or (B,C,T,H,W) to half of W and H."""
        if is_in_graph():
            return _max_pool(x)  # a single operation in a graph
        return _WindowMax.apply(x)


class _WindowMax(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        # For a contiguous image on the CPU, PyTorch's pool uses no vector instructions.
        slow = x.device.type == "cpu" and x.dim() > 3 and x.is_contiguous()
        return _max_of_corners(x) if slow else _max_pool(x)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> Tensor:
        x = ctx.saved_tensors[0].detach().requires_grad_()
        with torch.enable_grad():
            y = _max_pool(x)
        return torch.autograd.grad(y, x, dy)[0]


def _max_pool(x: Tensor) -> Tensor:
    if x.dim() == 3:
        return F.max_pool1d(x, 2)
    if x.dim() == 4:
        return F.max_pool2d(x, 2)
    # Frame by frame, because PyTorch's 3-D pool has no deterministic backward pass on CUDA.
    if x.is_contiguous():
        return F.max_pool2d(x.flatten(1, 2), 2).unflatten(1, x.shape[1:3])
    frames = F.max_pool2d(x.transpose(1, 2).flatten(0, 1), 2)
    return frames.unflatten(0, (len(x), x.shape[2])).transpose(1, 2)


def _max_of_corners(x: Tensor) -> Tensor:
    height, width = (side // 2 * 2 for side in x.shape[-2:])
    corners = (x[..., row:height:2, col:width:2] for row in (0, 1) for col in (0, 1))
    return reduce(torch.maximum, corners)
