"""The non-local block in plain loops over float64 arrays, from the equations of the paper alone.

Axes as in the package: B images, C channels, D inner channels, N positions, M subsampled positions.
"""

import math
from itertools import product

import numpy as np
from torch import nn

from nl_detectron.layers import NonLocalBlock


def naive_block(block: NonLocalBlock, x: np.ndarray) -> np.ndarray:
    """z = W_z y + x (Eq. 6) of x (B,C,S), with the block's parameters."""
    y = []
    for image in x:
        pooled = naive_pool(image) if block.subsample == "before" else image
        form = block.pairwise_name
        # global_context looks at no x_i: any theta does
        theta = image if form in ("gaussian", "global_context") else naive_conv(block.theta, image)
        phi = pooled if form == "gaussian" else naive_conv(block.phi, pooled)
        g = naive_conv(block.g, pooled)
        if block.subsample == "after":
            phi, g = naive_pool(phi), naive_pool(g)
        theta, phi, g = (a.reshape(len(a), -1).T for a in (theta, phi, g))  # (N,D), (M,D), (M,D)
        y.append(naive_weights(block.pairwise, form, theta, phi) @ g)
    z = np.stack([naive_conv(block.w_z, y_of_image.T) for y_of_image in y])  # (B,C,N)
    if block.norm is not None:
        z = naive_norm(block.norm, z)
    return z.reshape(x.shape) + x


def naive_weights(pairwise: nn.Module, name: str, theta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """f(x_i, x_j) / C(x) (Eqs. 1-5) of theta (N,D) and phi (M,D), as (N,M)."""
    if name == "disentangled":  # Yin et al. 2020
        theta, w_x, phi = theta - theta.mean(axis=0), phi[:, -1], phi[:, :-1]
        phi = phi - phi.mean(axis=0)
        unary = np.array([math.exp(score) for score in w_x])
        return naive_weights(pairwise, "embedded_gaussian", theta, phi) + unary / unary.sum()
    f = np.zeros((len(theta), len(phi)))
    for i, j in product(range(len(theta)), range(len(phi))):
        dot = float(theta[i] @ phi[j]) if name != "global_context" else 0.0
        if name == "gaussian":
            f[i, j] = math.exp(dot)
        elif name == "embedded_gaussian":
            # the released code's scale: the root of the embedding's channels
            f[i, j] = math.exp(dot / math.sqrt(theta.shape[1]) if pairwise.use_scale else dot)
        elif name == "dot_product":
            f[i, j] = dot
        elif name == "concatenation":
            w_f = pairwise.w_f.detach().numpy()
            f[i, j] = max(0.0, float(w_f @ np.concatenate([theta[i], phi[j]])))
        elif name == "global_context":
            f[i, j] = math.exp(float(pairwise.w.detach().numpy() @ phi[j]))
    if name in ("gaussian", "embedded_gaussian", "global_context"):
        return f / f.sum(axis=1, keepdims=True)
    return f / len(phi)


def naive_conv(conv: nn.Module, x: np.ndarray) -> np.ndarray:
    """A 1x1 conv of x (C,S): one matrix for every position."""
    weight = conv.weight.detach().numpy().reshape(conv.out_channels, -1)
    out = np.zeros((conv.out_channels, *x.shape[1:]))
    for at in np.ndindex(x.shape[1:]):
        out[(slice(None), *at)] = weight @ x[(slice(None), *at)]
        if conv.bias is not None:
            out[(slice(None), *at)] += conv.bias.detach().numpy()
    return out


def naive_pool(x: np.ndarray) -> np.ndarray:
    """The largest of every 2 (1-D) or 2x2 positions of x (C,S); not over time; odd rests fall."""
    space = x.shape[1:]
    window = {1: (2,), 2: (2, 2), 3: (1, 2, 2)}[len(space)]
    out = np.zeros((len(x), *(side // w for side, w in zip(space, window, strict=True))))
    for at in np.ndindex(out.shape[1:]):
        region = tuple(slice(a * w, (a + 1) * w) for a, w in zip(at, window, strict=True))
        out[(slice(None), *at)] = x[(slice(None), *region)].reshape(len(x), -1).max(axis=1)
    return out


def naive_norm(norm: nn.Module, z: np.ndarray) -> np.ndarray:
    """BN, GN or LN of z (B,C,N)."""
    weight, bias = (p.detach().numpy()[:, None] for p in (norm.weight, norm.bias))
    if isinstance(norm, nn.GroupNorm):
        grouped = z.reshape(len(z), norm.num_groups, -1)
        mean, var = grouped.mean(axis=2, keepdims=True), grouped.var(axis=2, keepdims=True)
        z = ((grouped - mean) / np.sqrt(var + norm.eps)).reshape(z.shape)
    else:
        if not hasattr(norm, "running_mean"):  # Detectron2's LayerNorm: channels of a position
            mean, var = z.mean(axis=1, keepdims=True), z.var(axis=1, keepdims=True)
        elif norm.training:
            mean, var = z.mean(axis=(0, 2), keepdims=True), z.var(axis=(0, 2), keepdims=True)
        else:
            mean, var = (s.numpy()[:, None] for s in (norm.running_mean, norm.running_var))
        z = (z - mean) / np.sqrt(var + norm.eps)
    return z * weight + bias
