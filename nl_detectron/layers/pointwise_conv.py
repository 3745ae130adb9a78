"""1x1 convs in 1-D, 2-D and 3-D, computed as one matrix product per image.

On the CPU, oneDNN's conv reorders a contiguous image for its backward pass. This takes up to half
as long as the products themselves, so in this case only, BLAS computes them.
"""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.conv import _ConvNd

from .graphs import is_in_graph


class _Pointwise(_ConvNd):
    """Mixin for PyTorch's convs of size 1: uses BLAS for contiguous images on the CPU."""

    def _conv_forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        contiguous = x.device.type == "cpu" and x.is_contiguous()
        if is_in_graph() or not contiguous or torch.is_autocast_enabled("cpu"):
            return super()._conv_forward(x, weight, bias)
        y = _MatrixOnPositions.apply(x.flatten(2), weight.flatten(1), bias)
        return y.unflatten(2, x.shape[2:])


class PointwiseConv1d(_Pointwise, nn.Conv1d):
    pass


class PointwiseConv2d(_Pointwise, nn.Conv2d):
    pass


class PointwiseConv3d(_Pointwise, nn.Conv3d):
    pass


POINTWISE_CONVS = {1: PointwiseConv1d, 2: PointwiseConv2d, 3: PointwiseConv3d}


class _MatrixOnPositions(torch.autograd.Function):
    """weight (D,C) times every position of x (B,C,N), plus bias (D): (B,D,N)."""

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        weights = weight.expand(len(x), -1, -1)
        return weights @ x if bias is None else torch.baddbmm(bias[:, None], weights, x)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        dx = dweight = dbias = None
        if ctx.needs_input_grad[0]:
            dx = weight.t().expand(len(x), -1, -1) @ dy
        if ctx.needs_input_grad[1]:
            dweight = torch.zeros_like(weight)
            for x_of_image, dy_of_image in zip(x, dy, strict=True):  # avoids storing B matrices
                dweight.addmm_(dy_of_image, x_of_image.t())
        if ctx.needs_input_grad[2]:
            dbias = dy.sum(dim=(0, 2))
        return dx, dweight, dbias
