"""The sum of the softmax functions, one tile of the weights at a time.

A tile stays in the cache, and the next tile reuses its memory. For the backward pass, the weights
of the first ``KEPT_PAIRS`` pairs may be kept, which costs memory. The other weights are computed
again, which costs one matrix product in addition to the six of the dense sum.
"""

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from .choice import KEPT_PAIRS, TILE_PAIRS
from .graphs import can_read, is_in_graph
from .layout import empty_like, has_channels_first, to_float32

# Matrix products on a GPU are fast where rows start at multiples of 16 bytes, so that M is rounded
# up to a multiple of this, by device.
ALIGNMENT = {"cuda": 8}

# The softmax of up to this many scores a row is not in place, by device: on a CPU that takes up to
# 1.6 times as long where the number is no multiple of 16. Longer rows are faster in place.
SHORT_ROW = {"cpu": 128}

Tile = tuple[slice, slice]  # images, and positions i


def softmax_sum(
    theta: Tensor,
    phi: Tensor,
    g: Tensor,
    scale: float = 1.0,
    keep_weights: bool = True,
    padding: Tensor | None = None,
) -> Tensor:
    """sum_j softmax_j(scale theta_i . phi_j) g_j, differentiable in theta, phi and g.

    The result has the dtype and the layout of g. Scores, weights and sums are at least float32. On
    CUDA, half-precision inputs are multiplied as such, and weights are rounded to the dtype of g
    for their products, as in FlashAttention. The function cannot be differentiated twice.

    Args:
        theta: (B,N,D).
        phi: (B,M,D).
        g: (B,M,E).
        scale: factor of the scores.
        keep_weights: keep up to ``KEPT_PAIRS`` weights for the backward pass; otherwise it computes
            all of them again.
        padding: (B,M), true at the positions j that are left out; by default none is.

    Returns:
        (B,N,E).
    """
    if not torch.is_grad_enabled():
        return _sum(theta, phi, g, scale, padding)[0]
    return _SoftmaxSum.apply(theta, phi, g, scale, keep_weights, padding)


def _sum(
    theta: Tensor, phi: Tensor, g: Tensor, scale: float, padding: Tensor | None, to_keep: int = 0
) -> tuple[Tensor, list[Tensor]]:
    """The sum, and the weights of its first tiles, up to ``to_keep`` pairs."""
    kept, dtype, m = [], g.dtype, phi.shape[1]
    theta, phi, g = map(_operand, (theta, phi, g))
    phi, g = _pad(phi), _pad(g)
    y = empty_like(theta, theta.shape[1], g)
    buffer = _buffer(theta, phi)
    for tile in _tiles(theta, phi):
        weights = _weights(theta, phi, padding, tile, scale, buffer, m)
        _multiply(weights, g[tile[0]], y[tile])
        to_keep -= weights.numel()
        if to_keep >= 0:
            kept.append(weights)
            buffer = torch.empty_like(buffer)
    return y.to(dtype), kept


class _SoftmaxSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        theta: Tensor,
        phi: Tensor,
        g: Tensor,
        scale: float,
        keep_weights: bool,
        padding: Tensor | None,
    ) -> Tensor:
        to_keep = KEPT_PAIRS if keep_weights and any(ctx.needs_input_grad) else 0
        y, kept = _sum(theta, phi, g, scale, padding, to_keep)
        ctx.scale = scale
        ctx.save_for_backward(theta, phi, g, padding, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, dy: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors  # read once: checkpointing allows no second access
        tensors, padding, kept = saved[:3], saved[3], saved[4:]
        m = tensors[1].shape[1]
        theta, phi, g, dy = map(_operand, (*tensors, dy))
        phi, g = _pad(phi), _pad(g)
        dtheta = torch.empty_like(theta)
        dphi, dg = (to_float32(torch.zeros_like(t)) for t in (phi, g))
        buffer, second_buffer = _buffer(theta, phi), _buffer(theta, phi)
        for number, tile in enumerate(_tiles(theta, phi)):
            images, _ = tile
            if number < len(kept):
                weights = kept[number]
            else:
                weights = _weights(theta, phi, padding, tile, ctx.scale, buffer, m)
            _multiply(weights.transpose(1, 2), dy[tile], dg[images], add=True)
            d = _view(second_buffer, weights.shape)
            _multiply(dy[tile], g[images].transpose(1, 2), d)
            torch.ops.aten._softmax_backward_data.out(d, weights, -1, d.dtype, grad_input=d)
            d = d.to(phi.dtype)
            _multiply(d, phi[images], dtheta[tile], scale=ctx.scale)
            _multiply(d.transpose(1, 2), theta[tile], dphi[images], scale=ctx.scale, add=True)
        dphi, dg = dphi[:, :m], dg[:, :m]
        grads = (d.to(t.dtype) for d, t in zip((dtheta, dphi, dg), tensors, strict=True))
        return (*grads, None, None, None)


def _multiply(a: Tensor, b: Tensor, out: Tensor, scale: float = 1.0, add: bool = False) -> None:
    """Write the product scale a b to ``out``, or add it."""
    a = a.to(b.dtype)  # weights are float32
    if has_channels_first(out):  # batched products need contiguous rows
        a, b, out = b.transpose(1, 2), a.transpose(1, 2), out.transpose(1, 2)
    if out.dtype == a.dtype:
        out.baddbmm_(a, b, beta=int(add), alpha=scale)
    else:
        torch.baddbmm(out, a, b, out.dtype, beta=int(add), alpha=scale, out=out)


def _operand(t: Tensor) -> Tensor:
    """t in a dtype whose products can be summed in float32."""
    # On a CPU and in graphs, PyTorch has no product in float32 of half-precision matrices.
    return t if t.is_cuda and not is_in_graph() else to_float32(t)


def _pad(rows: Tensor) -> Tensor:
    """phi or g with M rounded up; the scores of the new rows become -inf."""
    m, alignment = rows.shape[1], ALIGNMENT.get(rows.device.type, 1)
    if m % alignment == 0:
        return rows
    padded = empty_like(rows, m + -m % alignment, rows)
    padded[:, :m] = rows
    padded[:, m:] = 0
    return padded


def _tiles(theta: Tensor, phi: Tensor) -> Iterator[Tile]:
    images, rows = _tile_size(theta, phi)
    for image in range(0, theta.shape[0], images):
        for row in range(0, theta.shape[1], rows):
            yield slice(image, image + images), slice(row, row + rows)


def _tile_size(theta: Tensor, phi: Tensor) -> tuple[int, int]:
    """Number of images and of positions i: several whole images, or a part of one."""
    (b, n, _), m = theta.shape, phi.shape[1]
    if n * m <= TILE_PAIRS:
        return max(min(TILE_PAIRS // (n * m), b), 1), n
    parts = math.ceil(n * m / TILE_PAIRS)
    return 1, math.ceil(n / parts)  # of equal size: a matrix product of few rows is slow


def _buffer(theta: Tensor, phi: Tensor) -> Tensor:
    """Uninitialised memory for the weights of one tile."""
    images, rows = _tile_size(theta, phi)
    dtype = torch.promote_types(theta.dtype, torch.float32)
    return theta.new_empty(images * rows * phi.shape[1], dtype=dtype)


def _view(buffer: Tensor, shape: tuple[int, ...]) -> Tensor:
    return buffer[: shape[0] * shape[1] * shape[2]].view(shape)


def _weights(
    theta: Tensor,
    phi: Tensor,
    padding: Tensor | None,
    tile: Tile,
    scale: float,
    buffer: Tensor,
    m: int,
) -> Tensor:
    theta, phi = theta[tile], phi[tile[0]]
    scores = _view(buffer, (*theta.shape[:2], phi.shape[1]))
    _multiply(theta, phi.transpose(1, 2), scores, scale)
    if m < scores.shape[2]:  # there are only m positions j
        scores[..., m:] = -math.inf
    if padding is not None:
        scores[..., :m].masked_fill_(padding[tile[0], None], -math.inf)
    short = m <= SHORT_ROW.get(scores.device.type, 0)
    weights = torch.empty_like(scores) if short else scores
    torch.softmax(scores, dim=-1, out=weights)
    if can_read(weights):
        _remove_subnormal(weights)
    return weights


def _remove_subnormal(weights: Tensor) -> None:
    """Set weights to zero that are far below the rounding error of y, if there may be many.

    With subnormal numbers a CPU's matrix product takes up to 50 times as long, and scores that
    differ by 88 or more give such weights; gaussian's of ResNet features differ by thousands.
    Reading all weights would take a few percent of the sum's time, so only every 256th position is
    looked at.
    """
    limits = torch.finfo(weights.dtype)
    floor = limits.tiny / limits.eps
    if weights[:, ::256].min().item() < floor:
        F.threshold(weights, floor, 0.0, inplace=True)
