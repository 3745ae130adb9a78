"""The softmax forms' sum over pairs, a tile of the weights at a time.

A tile stays in the cache, and its memory serves the next one. For the backward pass the weights of
the first ``KEPT_PAIRS`` pairs are kept, which costs memory, or none; those of the others are made
again, which costs one matrix product more to the six of the dense sum.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from .choice import KEPT_PAIRS, TILE_PAIRS
from .layout import empty_like, has_channels_first, to_float32

Tile = tuple[slice, slice]  # which images, and which of their positions i


def softmax_sum(
    theta: Tensor, phi: Tensor, g: Tensor, scale: float = 1.0, keep_weights: bool = True
) -> Tensor:
    """sum_j softmax_j(scale theta_i . phi_j) g_j, with gradients to theta, phi and g.

    The result has the dtype of g and its layout; scores, weights and sums are float32 at least.
    It cannot be differentiated twice.

    Args:
        theta: (B,N,D).
        phi: (B,M,D).
        g: (B,M,E).
        scale: of the scores.
        keep_weights: for the backward pass, up to ``KEPT_PAIRS``; else all are made again.

    Returns:
        (B,N,E).
    """
    return _SoftmaxSum.apply(theta, phi, g, scale, keep_weights)


class _SoftmaxSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx, theta: Tensor, phi: Tensor, g: Tensor, scale: float, keep_weights: bool
    ) -> Tensor:
        ctx.scale, kept = scale, []
        to_keep = KEPT_PAIRS if keep_weights and any(ctx.needs_input_grad) else 0
        tensors, (theta, phi, g), dtype = (theta, phi, g), map(to_float32, (theta, phi, g)), g.dtype
        y = empty_like(theta, theta.shape[1], g)
        buffer = _buffer(theta, phi)
        for tile in _tiles(theta, phi):
            weights = _weights(theta[tile], phi[tile[0]], scale, buffer)
            _multiply(weights, g[tile[0]], y[tile])
            to_keep -= weights.numel()
            if to_keep >= 0:
                kept.append(weights)
                buffer = torch.empty_like(buffer)
        ctx.save_for_backward(*tensors, *kept)
        return y.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # once: checkpointing allows no second look
        tensors, kept = saved[:3], saved[3:]
        theta, phi, g, dy = map(to_float32, (*tensors, dy))
        dtheta, dphi, dg = torch.empty_like(theta), torch.zeros_like(phi), torch.zeros_like(g)
        buffer, second_buffer = _buffer(theta, phi), _buffer(theta, phi)
        for number, tile in enumerate(_tiles(theta, phi)):
            images, _ = tile
            if number < len(kept):
                weights = kept[number]
            else:
                weights = _weights(theta[tile], phi[images], ctx.scale, buffer)
            _multiply(weights.transpose(1, 2), dy[tile], dg[images], add=True)
            d = _view(second_buffer, weights.shape)
            _multiply(dy[tile], g[images].transpose(1, 2), d)
            torch.ops.aten._softmax_backward_data.out(d, weights, -1, d.dtype, grad_input=d)
            _multiply(d, phi[images], dtheta[tile], scale=ctx.scale)
            _multiply(d.transpose(1, 2), theta[tile], dphi[images], scale=ctx.scale, add=True)
        grads = (d.to(t.dtype) for d, t in zip((dtheta, dphi, dg), tensors, strict=True))
        return (*grads, None, None)


def _multiply(a: Tensor, b: Tensor, out: Tensor, scale: float = 1.0, add: bool = False) -> None:
    """``out`` becomes scale a b, or has it added."""
    if has_channels_first(out):  # batches of products want rows
        a, b, out = b.transpose(1, 2), a.transpose(1, 2), out.transpose(1, 2)
    out.baddbmm_(a, b, beta=int(add), alpha=scale)


def _tiles(theta: Tensor, phi: Tensor) -> Iterator[Tile]:
    images, rows = _tile_size(theta, phi)
    for image in range(0, theta.shape[0], images):
        for row in range(0, theta.shape[1], rows):
            yield slice(image, image + images), slice(row, row + rows)


def _tile_size(theta: Tensor, phi: Tensor) -> tuple[int, int]:
    """Some whole images, or one image and some of its positions i."""
    (b, n, _), m = theta.shape, phi.shape[1]
    if n * m <= TILE_PAIRS:
        return max(min(TILE_PAIRS // (n * m), b), 1), n
    parts = math.ceil(n * m / TILE_PAIRS)
    return 1, math.ceil(n / parts)  # even ones: a matrix product of few rows is slow


def _buffer(theta: Tensor, phi: Tensor) -> Tensor:
    """Memory for the weights of one tile."""
    images, rows = _tile_size(theta, phi)
    return theta.new_empty(images * rows * phi.shape[1])


def _view(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    return buffer[: shape[0] * shape[1] * shape[2]].view(shape)


def _weights(theta: Tensor, phi: Tensor, scale: float, buffer: Tensor) -> Tensor:
    weights = _view(buffer, (*theta.shape[:2], phi.shape[1]))
    _multiply(theta, phi.transpose(1, 2), weights, scale)
    return torch.softmax(weights, dim=-1, out=weights)
