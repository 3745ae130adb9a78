"""The non-local block of "Non-local Neural Networks" (Wang et al., CVPR 2018), Sec. 3.3.

Axes: B images or RoIs, C channels of x, D inner channels, S space (or time and space),
N positions of x, M positions after subsampling.
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from detectron2.layers import CNNBlockBase, get_norm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from .choice import Sizes
from .graphs import is_exporting
from .layout import to_channels_last, to_float32, to_image, to_rows
from .padding import ValidPositions, join_images, split_images
from .pairwise import build_pairwise
from .pointwise_conv import POINTWISE_CONVS
from .window_max import WindowMax

SUBSAMPLES = ("before", "after", "none")
NORMS = ("", "BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N", "GN", "LN")


class NonLocalBlock(CNNBlockBase):
    """z = W_z y + x (Eq. 6) with y_i = 1/C(x) sum_j f(x_i, x_j) g(x_j) (Eq. 1).

    The block starts as the identity: W_z is zero or, with a norm, the norm's scale is (Sec. 4.1).

    Args:
        in_channels: C, the channels of x and z.
        inner_channels: D, the channels of theta, phi and g; half of C by default (Sec. 3.3).
        pairwise: f, the name of a function in ``PAIRWISE``.
        subsample: ``before`` pools x, then computes phi and g (the released code), ``after`` pools
            phi and g (the text of Sec. 3.3), ``none`` keeps every position.
        use_scale: divide theta . phi by sqrt(D); the functions that do not use it ignore it.
        norm: the norm after W_z, one of ``NORMS``; "" is none.
        checkpoint: keep only x for the backward pass and compute the rest again.
        ndim: number of dimensions after (B,C): 1 for a sequence, 2 for an image (H,W), 3 for a
            video (T,H,W).

    Raises:
        ValueError: an argument is not one of these choices.
    """

    theta: nn.Module
    phi: nn.Module

    def __init__(
        self,
        in_channels: int,
        *,
        inner_channels: int | None = None,
        pairwise: str = "embedded_gaussian",
        subsample: str = "before",
        use_scale: bool = True,
        norm: str = "",
        ndim: int = 2,
        checkpoint: bool = False,
    ):
        if in_channels < 1:
            raise ValueError(f"in_channels: expected 1 or more, got {in_channels}")
        super().__init__(in_channels, in_channels, stride=1)
        inner = max(in_channels // 2, 1) if inner_channels is None else inner_channels
        if inner < 1:
            raise ValueError(f"inner_channels: expected 1 or more, or None, got {inner}")
        _check_choice("subsample", subsample, SUBSAMPLES)
        _check_choice("ndim", ndim, tuple(POINTWISE_CONVS))
        _check_norm(norm)

        self.inner_channels = inner
        self.pairwise_name = pairwise
        self.subsample = subsample
        self.norm_name = norm
        self.ndim = ndim
        self.checkpoint = checkpoint

        # gaussian compares x with itself, so its embedding has all C channels
        embeds = pairwise != "gaussian"
        self.pairwise = build_pairwise(pairwise, inner if embeds else in_channels, use_scale)
        self.pairwise.remakes_weights = True
        conv = POINTWISE_CONVS[ndim]
        self.pool = nn.Identity() if subsample == "none" else WindowMax()
        for name, channels in (("theta", inner), ("phi", self.pairwise.phi_channels)):
            embedded = name in self.pairwise.embeddings
            self.add_module(name, conv(in_channels, channels, 1) if embedded else nn.Identity())
        self.g = conv(in_channels, inner, 1)
        self.w_z = conv(inner, in_channels, 1, bias=not norm)
        self.norm = get_norm(norm, in_channels)
        self._init_weights()

    def _init_weights(self) -> None:
        """Normal with std 0.01 (released code), and zero in the last layer, so z = x (Sec. 4.1)."""
        for module in self.children():
            if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.pairwise.init_embeddings(self.theta, self.phi)
        nn.init.zeros_(self.w_z.weight if self.norm is None else self.norm.weight)

    def forward(self, x: Tensor, sizes: Sequence[Sequence[int]] | None = None) -> Tensor:
        """Compute z (B,C,S) from x (B,C,S), where S has ``ndim`` dimensions.

        Args:
            x: the features.
            sizes: the size of each image in positions, if images are padded behind their last
                positions. Inside an image, z is then what it is without the padding. What z is in
                the padding depends on the image only.

        Raises:
            ValueError: x has another shape or number of images, or is smaller than the pool.
        """
        self._check_input(x, sizes)
        if self.checkpoint and torch.is_grad_enabled():  # the block draws no random numbers
            z = checkpoint(self._w_z_y, x, sizes, use_reentrant=False, preserve_rng_state=False)
        else:
            z = self._w_z_y(x, sizes)
        if self.norm is not None:
            z = z.expand_as(x)
            if sizes is None:
                z = self._apply_norm(self.norm, z)
            else:
                z = join_images(self._norm_images(split_images(z, sizes)), x.shape[2:])
        # z may be float32; the following convs get the dtype of x.
        return x + z.to(x.dtype)

    def embed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute theta (B,N,D), phi (B,M,P) and g (B,M,E) from x (B,C,S), one row per position.

        ``self.pairwise.weights(theta, phi)`` are the block's weights.
        """
        theta, phi, g = self._embeddings(x)
        theta, phi = self.pairwise.transform_embeddings(to_rows(theta), to_rows(phi))
        return theta, phi, to_rows(g)

    def _embeddings(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """theta, phi and g of x (B,C,S) as images, phi and g pooled."""
        x_hat = self.pool(x) if self.subsample == "before" else x
        theta, phi, g = self.theta(x), self.phi(x_hat), self.g(x_hat)
        if self.subsample == "after":
            phi, g = self.pool(phi), self.pool(g)
        return theta, phi, g

    def _w_z_y(self, x: Tensor, sizes: Sequence[Sequence[int]] | None) -> Tensor:
        """W_z y, (B,C,S), or (B,C,1,...) if all positions of an image share one y."""
        rows = self.pairwise.prefers_rows(self._sizes(x))
        theta, phi, g = self._embeddings(to_channels_last(x) if rows else x)
        valid_i = valid_j = None
        if sizes is not None:
            # padded positions j are left out; what padded positions i get does no harm
            pooled = [self._pooled(size) for size in sizes]
            valid_i = ValidPositions(sizes, theta.shape[2:], x.device)
            valid_j = ValidPositions(pooled, phi.shape[2:], x.device)
        space = theta.shape[2:]
        theta, phi = self.pairwise.transform_embeddings(to_rows(theta), to_rows(phi), valid_i)
        if self.pairwise.query_independent:
            theta, space = phi[:, :1], [1] * self.ndim
        y = to_image(self.pairwise(theta, phi, to_rows(g), valid_j), space)
        # under autocast, a sum in float32 may exceed the range of half precision
        halves = torch.is_autocast_enabled(x.device.type) and self.pairwise.weights_have_fixed_sum
        with torch.autocast(x.device.type, enabled=halves):
            return self.w_z(y)

    def _pooled(self, space: Sequence[int]) -> Sequence[int]:
        """Size of phi and g for a size of x."""
        if self.subsample == "none":
            return space
        return [*space[:-2], *(side // 2 for side in space[-2:])]

    def _sizes(self, x: Tensor) -> Sizes:
        """Sizes of the block's sum for x (B,C,S)."""
        device, space = x.device.type, x.shape[2:]
        dtype = x.dtype
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        n, m = math.prod(space), math.prod(self._pooled(space))
        channels, inner = self.pairwise.channels, self.inner_channels
        return Sizes(x.shape[0], n, channels, m, inner, device, dtype)

    def _norm_images(self, images: list[Tensor]) -> list[Tensor]:
        """Apply the norm to images (1,C,...) of several sizes. Batch norm takes them together."""
        norm = cast(nn.Module, self.norm)
        if not isinstance(norm, _BatchNorm):
            return [self._apply_norm(norm, image) for image in images]
        row = self._apply_norm(norm, torch.cat([image.flatten(2) for image in images], dim=2))
        parts = row.split([math.prod(image.shape[2:]) for image in images], dim=2)
        return [part.reshape(image.shape) for part, image in zip(parts, images, strict=True)]

    def _apply_norm(self, norm: nn.Module, z: Tensor) -> Tensor:
        """Apply the 2-D norm to z (B,C,S), whose positions become one row unless it is an image.

        They must not become a column. With contiguous channels, the strides of (B,C,N,1) match two
        memory layouts, and the backward pass of PyTorch's batch norm on the CPU assumes the wrong
        one (tests/layers/test_block_gradients.py has a minimal example).
        """
        image = z if z.dim() == 4 else z.flatten(2).unsqueeze(2)
        if type(norm) not in (nn.BatchNorm2d, nn.SyncBatchNorm):
            image = to_float32(image)  # the others would square half-precision values and overflow
        with torch.autocast(z.device.type, enabled=False):
            return norm(image).reshape(z.shape)

    def _check_input(self, x: Tensor, sizes: Sequence[Sequence[int]] | None) -> None:
        if x.dim() != self.ndim + 2 or x.shape[1] != self.in_channels:
            space = ("T", "H", "W")[-self.ndim :]
            raise ValueError(
                f"expected x of shape (B,{self.in_channels},{','.join(space)}), "
                f"got {tuple(x.shape)}"
            )
        if self.subsample != "none" and min(x.shape[2:][-2:]) < 2:
            raise ValueError(
                f"expected at least 2 positions per side for the 2x2 pool, got {tuple(x.shape)}; "
                "use subsample='none' or larger inputs"
            )
        if sizes is not None:
            self._check_sizes(x, sizes)

    def _check_sizes(self, x: Tensor, sizes: Sequence[Sequence[int]]) -> None:
        if len(sizes) != len(x):
            raise ValueError(f"expected the sizes of {len(x)} images, got {len(sizes)}")
        if is_exporting():
            return  # sizes are not known yet
        most = tuple(x.shape[2:])
        least = tuple(1 if pooled else 2 for pooled in self._pooled([1] * self.ndim))
        for size in sizes:
            fits = [a <= b <= c for a, b, c in zip(least, size, most, strict=False)]
            if len(size) != self.ndim or not all(fits):
                raise ValueError(
                    f"sizes: expected {self.ndim} sides of {least} to {most} positions, got "
                    f"{tuple(size)}"
                )

    def extra_repr(self) -> str:
        return f"subsample={self.subsample}, ndim={self.ndim}"


def _check_choice(name: str, value: object, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name}: expected one of {choices}, got {value!r}")


def _check_norm(norm: str) -> None:
    if norm == "FrozenBN":
        raise ValueError(
            "norm: FrozenBN after W_z starts with scale zero and never changes, so no gradient "
            "would reach the block; use '' (W_z starts at zero) or one of "
            f"{', '.join(NORMS[1:])}"
        )
    _check_choice("norm", norm, NORMS)
