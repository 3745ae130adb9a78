"""The attention of non-local blocks on one image.

Weights are computed on request from the recorded inputs, a few rows of the (N,M) matrix at a time.

Axes: N positions i of a block, M positions j (fewer under subsampling), C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from ..layers import NonLocalBlock, Pairwise, build_pairwise
from .geometry import Grid

ROWS_AT_ONCE = 256  # rows of the matrix of weights that are computed at once
SAME_EMBEDDINGS = ("embedded_gaussian", "dot_product")  # both use theta . phi


@dataclass(frozen=True)
class Attention:
    """Attention of one position x_i of one block.

    Attributes:
        block: the module's name.
        form: the pairwise function's name.
        grid: the positions x_j, in pixels of the image.
        point: x, y in the image of x_i, the middle of its cell.
        weights: f(x_i, x_j) / C(x), shape ``grid.shape``; of softmax forms they sum to one.
        values: norm of W_z g(x_j), shape ``grid.shape``, with the scale of a BN after W_z.
        scores: log f(x_i, x_j) of softmax forms, shape ``grid.shape``, which still differ where the
            softmax is saturated. None for other forms.
        box: x0, y0, x1, y1 of the RoI, for a block in a head.
        untrained: whether the block is as :func:`is_untrained` says.
    """

    block: str
    form: str
    grid: Grid
    point: tuple[float, float]
    weights: np.ndarray
    values: np.ndarray
    scores: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None
    untrained: bool = False

    @property
    def signed(self) -> bool:
        """Whether there are negative weights, as dot_product may have."""
        return bool((self.weights < 0).any())

    @property
    def contributions(self) -> np.ndarray:
        """Norms of w_ij W_z g(x_j), the contribution of each x_j to x_i, shape ``grid.shape``."""
        return np.abs(self.weights) * self.values


@dataclass(frozen=True)
class Summary:
    """Mean attention over all positions of a block.

    Attributes:
        received: mean over i of the absolute weight of each x_j, shape ``received_grid.shape``.
        entropy: entropy in nats of each x_i's absolute weights, shape ``entropy_grid.shape``;
            log(M) for uniform weights.
    """

    received: np.ndarray
    received_grid: Grid
    entropy: np.ndarray
    entropy_grid: Grid


@dataclass(frozen=True)
class BlockInput:
    """Input x (C,H,W) of a block, its grid in the image and, in a head, the RoI's box."""

    x: Tensor
    grid: Grid
    box: tuple[float, float, float, float] | None


class AttentionRecord:
    """An image, the model's output and the inputs of its blocks.

    Made by :func:`~.capture.record_attention`.

    Attributes:
        image: RGB uint8 (H,W,3).
        found: the model's output, such as ``{"instances": Instances}``, on the CPU.
        blocks: names of the blocks.
    """

    def __init__(
        self,
        image: np.ndarray,
        found: dict,
        modules: dict[str, NonLocalBlock],
        seen: dict[str, list[BlockInput]],
    ):
        self.image = image
        self.found = found
        self._modules = modules
        self._seen = seen

    @property
    def blocks(self) -> list[str]:
        return list(self._seen)

    @property
    def instances(self) -> Instances:
        """Detections in pixels of the image; empty if the model returns none."""
        return self.found.get("instances", Instances(self.image.shape[:2]))

    def forms(self, block: str) -> list[str]:
        """Forms that :meth:`attention` accepts for a block, its own first: see :func:`forms_of`."""
        self._check(block)
        return forms_of(self._modules[block])

    def attention(
        self, x: float, y: float, block: str, form: str | None = None
    ) -> Attention | None:
        """Attention of the block's position nearest to a point of the image.

        Args:
            x, y: pixels of the image.
            block: one of ``blocks``. In a head, the highest-scoring RoI that contains the point is
                taken; the result is None if there is none.
            form: one of ``forms(block)``; by default the block's own. Another form is applied to
                the theta and phi that were trained with the block's own.

        Raises:
            ValueError: the point is outside the image, or there is no such block or form.
        """
        height, width = self.image.shape[:2]
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"expected a point within the image, 0 to {width} and 0 to {height}, got {x}, {y}"
            )
        forms = self.forms(block)
        form = form or forms[0]
        if form not in forms:
            raise ValueError(f"expected one of {', '.join(forms)} for {block}, got {form!r}")
        seen = next((s for s in self._seen[block] if holds(s.box, x, y)), None)
        if seen is None:
            return None
        module = self._modules[block]
        row, column = seen.grid.nearest(x, y)
        with torch.no_grad():
            pairwise, theta, phi, g = _in_form(module, seen.x[None], form)
            one = theta[:, row * seen.grid.shape[1] + column][:, None]
            rows = {"weights": pairwise.weights(one, phi)[0, 0], "values": _values(module, g[0])}
            if (scores := pairwise.scores(one, phi)) is not None:
                rows["scores"] = scores[0, 0]
        grid = _pooled(module, seen)
        centre_x, centre_y = map(float, seen.grid.centres()[row, column])
        return Attention(
            block=block,
            form=form,
            grid=grid,
            point=(centre_x, centre_y),
            box=seen.box,
            untrained=is_untrained(module),
            **{n: row.float().cpu().numpy().reshape(grid.shape) for n, row in rows.items()},
        )

    def summary(self, block: str, roi: int = 0) -> Summary | None:
        """Summary of all positions of a block; in a head, of one RoI, or None if it is missing.

        Raises:
            ValueError: there is no such block.
        """
        self._check(block)
        if roi >= len(self._seen[block]):
            return None
        seen, module = self._seen[block][roi], self._modules[block]
        with torch.no_grad():
            theta, phi, _ = module.embed(seen.x[None])
            received, entropies = torch.zeros(()), []
            for some in theta.split(ROWS_AT_ONCE, dim=1):
                weights = module.pairwise.weights(some, phi)[0].float().abs()
                received = received + weights.sum(dim=0)
                entropies.append(_entropy(weights))
        grid = _pooled(module, seen)
        received = (received / theta.shape[1]).cpu().numpy().reshape(grid.shape)
        entropy = torch.cat(entropies).cpu().numpy().reshape(seen.grid.shape)
        return Summary(received, grid, entropy, seen.grid)

    def untrained(self, block: str) -> bool:
        """Whether a block is as :func:`is_untrained` says."""
        self._check(block)
        return is_untrained(self._modules[block])

    def _check(self, block: str) -> None:
        if block not in self._seen:
            there = ", ".join(self._seen) or "none, as this model has no non-local blocks"
            raise ValueError(f"there is no block {block!r} here; there are: {there}")


def forms_of(module: NonLocalBlock) -> list[str]:
    """Forms that a block's inputs allow, its own first.

    Embedded Gaussian and dot product share theta and phi, and Gaussian has neither. Other forms
    have parameters that only a block trained with them has.
    """
    own = module.pairwise_name
    others = SAME_EMBEDDINGS if own in SAME_EMBEDDINGS else ()
    return list(dict.fromkeys([own, *others, "gaussian"]))


def is_untrained(module: NonLocalBlock) -> bool:
    """Whether W_z or, with a norm, the norm's scale is all zero, as it begins (Sec. 4.1): the block
    adds nothing then, wherever it looks."""
    last = module.w_z if module.norm is None else module.norm
    return not bool(cast(Tensor, last.weight).any())


def _in_form(
    module: NonLocalBlock, x: Tensor, form: str
) -> tuple[Pairwise, Tensor, Tensor, Tensor]:
    """Pairwise function of a form with theta, phi and g for a block's x (B,C,H,W)."""
    theta, phi, g = module.embed(x)
    if form == module.pairwise_name:
        return module.pairwise, theta, phi, g
    if form == "gaussian":  # of x itself
        theta, phi = (t.flatten(2).transpose(1, 2) for t in (x, module.pool(x)))
    return build_pairwise(form, phi.shape[2], module.pairwise.use_scale), theta, phi, g


def _pooled(module: NonLocalBlock, seen: BlockInput) -> Grid:
    shape = seen.grid.shape
    pools = module.subsample != "none"
    return seen.grid.pooled((shape[0] // 2, shape[1] // 2)) if pools else seen.grid


def _values(module: NonLocalBlock, g: Tensor) -> Tensor:
    """Norms of W_z g(x_j) for g (M,E)."""
    w_z = module.w_z.weight.flatten(1)  # (C,E)
    norm = module.norm
    if isinstance(norm, nn.modules.batchnorm._BatchNorm) and norm.running_var is not None:
        w_z = w_z * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None]
    return (g @ w_z.T).norm(dim=-1)


def _entropy(weights: Tensor) -> Tensor:
    """Entropy in nats of rows (n,M) of non-negative weights."""
    parts = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return torch.special.entr(parts).sum(dim=-1)


def holds(box: Sequence[float] | None, x: float, y: float) -> bool:
    """Whether a box (x0, y0, x1, y1) contains a point; None contains every point."""
    return box is None or (box[0] <= x <= box[2] and box[1] <= y <= box[3])
