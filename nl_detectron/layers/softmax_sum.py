"""The softmax forms' sum over pairs, a piece of the weights at a time.

A piece stays in the cache, and its memory serves the next one. For the backward pass the weights of
the first ``KEPT_PAIRS`` pairs are kept, which costs memory, and the others made again, which costs
one matrix product more to the six of plain.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .cost import KEPT_PAIRS, PAIRS_AT_A_TIME

Piece = tuple[slice, slice]  # of the images, and of their positions i


def softmax_sum(theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
    """sum_j softmax_j(theta_i . phi_j) g_j, with gradients to all three; not twice differentiable.

    Args:
        theta: (B,N,D), of g's dtype, as phi.
        phi: (B,M,D).
        g: (B,M,E).

    Returns:
        (B,N,E).
    """
    return _SoftmaxSum.apply(theta, phi, g)


class _SoftmaxSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        y = g.new_empty(*theta.shape[:2], g.shape[2])
        room, kept = _room(theta, phi), []
        to_keep = KEPT_PAIRS if any(ctx.needs_input_grad) else 0
        for piece in _pieces(theta, phi):
            weights = _weights(theta[piece], phi[piece[0]], room)
            torch.bmm(weights, g[piece[0]], out=y[piece])
            to_keep -= weights.numel()
            if to_keep >= 0:
                kept.append(weights)
                room = torch.empty_like(room)
        ctx.save_for_backward(theta, phi, g, *kept)
        return y

    @staticmethod
    def backward(ctx, dy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        theta, phi, g, *kept = ctx.saved_tensors
        dtheta, dphi, dg = torch.empty_like(theta), torch.zeros_like(phi), torch.zeros_like(g)
        room, more_room = _room(theta, phi), _room(theta, phi)
        for number, piece in enumerate(_pieces(theta, phi)):
            images, _ = piece
            if number < len(kept):
                weights = kept[number]
            else:
                weights = _weights(theta[piece], phi[images], room)
            dg[images].baddbmm_(weights.transpose(1, 2), dy[piece])
            d = _view(more_room, weights.shape)
            torch.bmm(dy[piece], g[images].transpose(1, 2), out=d)
            torch.ops.aten._softmax_backward_data.out(d, weights, -1, d.dtype, grad_input=d)
            dtheta[piece].baddbmm_(d, phi[images], beta=0)
            dphi[images].baddbmm_(d.transpose(1, 2), theta[piece])
        return dtheta, dphi, dg


def _pieces(theta: Tensor, phi: Tensor) -> Iterator[Piece]:
    """Each contiguous in y."""
    images, rows = _size(theta, phi)
    for image in range(0, theta.shape[0], images):
        for row in range(0, theta.shape[1], rows):
            yield slice(image, image + images), slice(row, row + rows)


def _size(theta: Tensor, phi: Tensor) -> tuple[int, int]:
    """Of a piece: some whole images, or one image and some of its positions i."""
    (b, n, _), m = theta.shape, phi.shape[1]
    if n * m <= PAIRS_AT_A_TIME:
        return max(min(PAIRS_AT_A_TIME // (n * m), b), 1), n
    parts = math.ceil(n * m / PAIRS_AT_A_TIME)
    return 1, math.ceil(n / parts)  # even ones: a matrix product of few rows is slow


def _room(theta: Tensor, phi: Tensor) -> Tensor:
    """For the weights of one piece."""
    images, rows = _size(theta, phi)
    return theta.new_empty(images * rows * phi.shape[1])


def _view(room: Tensor, shape: tuple[int, ...]) -> Tensor:
    return room[: shape[0] * shape[1] * shape[2]].view(shape)


def _weights(theta: Tensor, phi: Tensor, room: Tensor) -> Tensor:
    weights = _view(room, (*theta.shape[:2], phi.shape[1]))
    torch.bmm(theta, phi.transpose(1, 2), out=weights)
    return torch.softmax(weights, dim=-1, out=weights)
