"""The whole non-local block once more, in plain differentiable torch operations.

Every step is written from the paper's equations with matrix products and sums over contiguous
(B,C,N) tensors, so that no memory layout, kernel or fused sum of the package takes part.
"""

import torch
from torch import Tensor, nn

from nl_detectron.layers import NonLocalBlock


def block_by_formula(block: NonLocalBlock, x: Tensor) -> Tensor:
    """z = norm(W_z y) + x (Eqs. 1 and 6) of x (B,C,S), with the block's own parameters."""
    x = x.contiguous()
    positions = x.flatten(2)
    pooled = _pool(x).flatten(2) if block.subsample == "before" else positions
    theta, phi = (
        _conv(getattr(block, name), source) if hasattr(getattr(block, name), "weight") else source
        for name, source in (("theta", positions), ("phi", pooled))
    )
    g = _conv(block.g, pooled)
    if block.subsample == "after":
        phi, g = (_pool(t.unflatten(2, x.shape[2:])).flatten(2) for t in (phi, g))
    weights = weights_by_formula(block.pairwise, block.pairwise_name, theta, phi)
    y = torch.einsum("bij,bcj->bci", weights, g)
    z = _conv(block.w_z, y)
    if block.norm is not None:
        z = _norm(block.norm, z)
    return z.view(x.shape) + x


def weights_by_formula(pairwise: nn.Module, form: str, theta: Tensor, phi: Tensor) -> Tensor:
    """f(x_i, x_j) / C(x) (Eqs. 2-5) of theta (B,D,N) and phi (B,D,M), as (B,N,M)."""
    if form == "global_context":
        scores = torch.einsum("c,bcj->bj", pairwise.w, phi)[:, None].expand(-1, theta.shape[2], -1)
        return torch.softmax(scores, dim=2)
    if form == "concatenation":
        w_theta, w_phi = (
            pairwise.w_f[: len(pairwise.w_f) // 2],
            pairwise.w_f[len(pairwise.w_f) // 2 :],
        )
        sums = torch.einsum("c,bci->bi", w_theta, theta)[:, :, None]
        sums = sums + torch.einsum("c,bcj->bj", w_phi, phi)[:, None]
        return torch.relu(sums) / phi.shape[2]
    unary = 0
    if form == "disentangled":
        phi, unary = phi[:, :-1], torch.softmax(phi[:, -1:], dim=2)
        theta, phi = (t - t.mean(dim=2, keepdim=True) for t in (theta, phi))
    dots = torch.einsum("bci,bcj->bij", theta, phi)
    if form == "dot_product":
        return dots / phi.shape[2]
    scaled = form != "gaussian" and pairwise.use_scale
    return torch.softmax(dots / theta.shape[1] ** 0.5 if scaled else dots, dim=2) + unary


def _conv(conv: nn.Module, x: Tensor) -> Tensor:
    """A 1x1 conv of x (B,C,N)."""
    y = torch.einsum("dc,bcn->bdn", conv.weight.flatten(1), x)
    return y if conv.bias is None else y + conv.bias[:, None]


def _pool(x: Tensor) -> Tensor:
    """The largest value of every two positions (1-D), or every 2x2 in space."""
    for dim in (-1, -2)[: min(x.dim() - 2, 2)]:
        whole = x.narrow(dim, 0, x.shape[dim] // 2 * 2)
        x = whole.unflatten(dim, (-1, 2)).amax(dim=dim)
    return x


def _norm(norm: nn.Module, z: Tensor) -> Tensor:
    """Batch, group or layer norm of z (B,C,N)."""
    if isinstance(norm, nn.GroupNorm):
        grouped = z.unflatten(1, (norm.num_groups, -1))
        z = _normalise(grouped, norm.eps, (2, 3)).flatten(1, 2)
    elif not hasattr(norm, "running_mean"):  # Detectron2's LayerNorm: the channels of a position
        z = _normalise(z, norm.eps, (1,))
    elif norm.training:
        z = _normalise(z, norm.eps, (0, 2))
    else:
        mean, var = (s[:, None] for s in (norm.running_mean, norm.running_var))
        z = (z - mean) / torch.sqrt(var + norm.eps)
    return z * norm.weight[:, None] + norm.bias[:, None]


def _normalise(z: Tensor, eps: float, dims: tuple[int, ...]) -> Tensor:
    centred = z - z.mean(dims, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dims, keepdim=True) + eps)
