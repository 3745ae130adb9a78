"""The pairwise functions f of "Non-local Neural Networks" (Wang et al., CVPR 2018), Eqs. 2-5.

Each is a module with two readings of Eq. 1, y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j):

- ``weights(theta, phi)``: f / C for every pair, the definition;
- ``forward(theta, phi, g)``: the sum.

Axes: B images or RoIs, N positions i, M positions j (fewer than N under subsampling),
D channels of the embedding (of x itself for gaussian), E channels of g.
"""

import math

import torch
from torch import Tensor, nn


class Pairwise(nn.Module):
    """A pairwise function over theta (B,N,D), phi (B,M,D) and g (B,M,E).

    Args:
        channels: D.
        use_scale: divide theta . phi by sqrt(D); only embedded_gaussian looks at it.

    A subclass gives :meth:`weights`. ``embeddings`` names the 1x1 convs it wants of the block;
    what it does not name comes as x itself.
    """

    embeddings: tuple[str, ...] = ("theta", "phi")

    def __init__(self, channels: int, use_scale: bool = True):
        super().__init__()
        self.channels = channels
        self.use_scale = use_scale

    def weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        """f(x_i, x_j) / C(x) for every pair of positions, (B,N,M)."""
        raise NotImplementedError

    def forward(self, theta: Tensor, phi: Tensor, g: Tensor) -> Tensor:
        """y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (Eq. 1), (B,N,E).

        Raises:
            ValueError: shapes that do not fit together.
        """
        self._check(theta, phi, g)
        return self.weights(theta, phi) @ g

    def _check(self, theta: Tensor, phi: Tensor, g: Tensor) -> None:
        fits = (
            theta.dim() == phi.dim() == g.dim() == 3
            and theta.shape[2] == phi.shape[2] == self.channels
            and phi.shape[:2] == g.shape[:2]
            and theta.shape[0] == phi.shape[0]
        )
        if not fits:
            raise ValueError(
                f"expected theta (B,N,{self.channels}), phi (B,M,{self.channels}) and g (B,M,E), "
                f"got {tuple(theta.shape)}, {tuple(phi.shape)} and {tuple(g.shape)}"
            )

    def extra_repr(self) -> str:
        return f"channels={self.channels}"


class Gaussian(Pairwise):
    """exp(x_i . x_j), normalised over j (Eq. 2): no theta, no phi, no scale."""

    embeddings = ()

    def weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        return _softmax_over_j(theta, phi)


class EmbeddedGaussian(Pairwise):
    """exp(theta(x_i) . phi(x_j)), normalised over j (Eq. 3)."""

    def weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        # The scale is the released code's, not the paper's; on theta, the smaller tensor.
        scale = 1 / math.sqrt(self.channels) if self.use_scale else 1.0
        return _softmax_over_j(theta * scale, phi)


def _softmax_over_j(theta: Tensor, phi: Tensor) -> Tensor:
    """softmax_j(theta_i . phi_j), scores in float32 at least: x_i . x_i passes fp16's 65,504."""
    exact = torch.promote_types(theta.dtype, torch.float32)
    with torch.autocast(theta.device.type, enabled=False):
        scores = theta.to(exact) @ phi.to(exact).transpose(1, 2)
    return torch.softmax(scores, dim=-1).to(theta.dtype)


class DotProduct(Pairwise):
    """theta(x_i) . phi(x_j), divided by the number of positions j (Eq. 4)."""

    def weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        return theta @ phi.transpose(1, 2) / phi.shape[1]


class Concatenation(Pairwise):
    """ReLU(w_f . [theta(x_i), phi(x_j)]), divided by the number of positions j (Eq. 5).

    w_f . [theta, phi] = w_theta . theta + w_phi . phi, so that no (2D,N,M) tensor is needed.
    """

    def __init__(self, channels: int, use_scale: bool = True):
        super().__init__(channels, use_scale)
        self.w_f = nn.Parameter(torch.empty(2 * channels))
        nn.init.normal_(self.w_f, std=0.01)

    def weights(self, theta: Tensor, phi: Tensor) -> Tensor:
        w_theta, w_phi = self.w_f.split(self.channels)
        a, b = theta @ w_theta, phi @ w_phi  # (B,N), (B,M)
        return torch.relu(a[:, :, None] + b[:, None, :]) / phi.shape[1]


PAIRWISE: dict[str, type[Pairwise]] = {
    "gaussian": Gaussian,
    "embedded_gaussian": EmbeddedGaussian,
    "dot_product": DotProduct,
    "concatenation": Concatenation,
}


def build_pairwise(name: str, channels: int, use_scale: bool = True) -> Pairwise:
    """The pairwise function called ``name``.

    Args:
        name: a key of ``PAIRWISE``.
        channels: D, the channels of theta and phi (of x for gaussian).
        use_scale: divide theta . phi by sqrt(D), in embedded_gaussian only.

    Raises:
        ValueError: an unknown name or fewer than one channel.
    """
    if name not in PAIRWISE:
        raise ValueError(f"pairwise: expected one of {', '.join(PAIRWISE)}, got {name!r}")
    if channels < 1:
        raise ValueError(f"channels: expected 1 or more, got {channels}")
    return PAIRWISE[name](channels, use_scale)
