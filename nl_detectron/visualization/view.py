"""What was seen of one image, and where each non-local block looks in it.

The weights of the positions that are asked for are computed anew, a few rows of the (N,M) matrix
at a time.

Axes: N positions i of a block, M positions j (fewer under subsampling), C channels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.structures import Instances
from torch import Tensor, nn

from ..layers import NonLocalBlock, Pairwise, build_pairwise
from .grid import Grid

ROWS_AT_ONCE = 256  # of a whole matrix of weights
SAME_EMBEDDINGS = ("embedded_gaussian", "dot_product")  # both are of theta . phi


@dataclass(frozen=True)
class Attention:
    """Where one position x_i of one block looks.

    Attributes:
        block: the module's name.
        form: the pairwise function's name.
        grid: the positions x_j, in pixels of the image.
        point: x, y in the image of x_i, the middle of its cell.
        weights: f(x_i, x_j) / C(x), shape ``grid.shape``; of softmax forms they sum to one.
        values: the norm of W_z g(x_j), shape ``grid.shape``: how much each x_j has to say. With a
            norm after W_z that uses statistics it learnt (BN), its scale counts, too.
        scores: log f(x_i, x_j) of softmax forms, shape ``grid.shape``: they show an order where the
            weights are all on one position. Of the other forms None.
        box: x0, y0, x1, y1 of the RoI, of a block in a head.
    """

    block: str
    form: str
    grid: Grid
    point: tuple[float, float]
    weights: np.ndarray
    values: np.ndarray
    scores: np.ndarray | None = None
    box: tuple[float, float, float, float] | None = None

    @property
    def signed(self) -> bool:
        """Whether weights may be below zero, as dot_product's."""
        return bool((self.weights < 0).any())

    @property
    def contributions(self) -> np.ndarray:
        """The norms of w_ij W_z g(x_j), shape ``grid.shape``: what reaches x_i from each x_j."""
        return np.abs(self.weights) * self.values


@dataclass(frozen=True)
class Summary:
    """All positions of a block together.

    Attributes:
        received: mean over i of each x_j's weight (of its size, where weights are signed),
            shape ``received_grid.shape``.
        entropy: of each x_i's weights in nats, shape ``entropy_grid.shape``; log(M) is an even
            look at everything. Signed weights count by their size.
    """

    received: np.ndarray
    received_grid: Grid
    entropy: np.ndarray
    entropy_grid: Grid


@dataclass(frozen=True)
class Seen:
    """What a block was given: x (C,H,W), its grid in the image, and the RoI it is of."""

    x: Tensor
    grid: Grid
    box: tuple[float, float, float, float] | None


class View:
    """An image, what was found in it, and what the blocks saw; made by ``look``.

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
        seen: dict[str, list[Seen]],
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
        """Detections, in pixels of the image; none of a model that gives none."""
        return self.found.get("instances", Instances(self.image.shape[:2]))

    def forms(self, block: str) -> list[str]:
        """Forms that :meth:`attention` can tell of a block, its own first: see :func:`forms_of`."""
        self._check(block)
        return forms_of(self._modules[block])

    def attention(
        self, x: float, y: float, block: str, form: str | None = None
    ) -> Attention | None:
        """Where the block's position nearest to a point of the image looks.

        Args:
            x, y: pixels of the image.
            block: one of ``blocks``. One in a head looks within an RoI: the surest that holds the
                point. If none does, there is nothing to tell: None.
            form: one of ``forms(block)``, as if the block had it; by default its own. Its theta and
                phi stay those that were trained for its own.

        Raises:
            ValueError: a point outside the image, or a block or form that there is not.
        """
        height, width = self.image.shape[:2]
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"expected a point within the image, 0 to {width} and 0 to {height}, got {x}, {y}"
            )
        forms = self.forms(block)
        form = form or forms[0]
        if form not in forms:
            raise ValueError(f"{block} can be told as {', '.join(forms)}, got {form!r}")
        seen = next((s for s in self._seen[block] if holds(s.box, x, y)), None)
        if seen is None:
            return None
        module = self._modules[block]
        row, column = seen.grid.nearest(x, y)
        with torch.no_grad():
            pairwise, theta, phi, g = _in_form(module, seen.x[None], form)
            one = theta[:, row * seen.grid.shape[1] + column][:, None]
            rows = {"weights": pairwise.weights(one, phi)[0, 0], "values": _values(module, g[0])}
            if hasattr(pairwise, "scores"):
                rows["scores"] = pairwise.scores(one, phi)[0, 0]
        grid = _pooled(module, seen)
        return Attention(
            block=block,
            form=form,
            grid=grid,
            point=tuple(float(v) for v in seen.grid.centres()[row, column]),
            box=seen.box,
            **{n: row.float().cpu().numpy().reshape(grid.shape) for n, row in rows.items()},
        )

    def summary(self, block: str, roi: int = 0) -> Summary | None:
        """Of all positions of a block; in a head, of the RoI of that number, or None without it.

        Raises:
            ValueError: a block that there is not.
        """
        self._check(block)
        if roi >= len(self._seen[block]):
            return None
        seen, module = self._seen[block][roi], self._modules[block]
        with torch.no_grad():
            theta, phi, _ = module.embed(seen.x[None])
            received, entropies = 0, []
            for some in theta.split(ROWS_AT_ONCE, dim=1):
                weights = module.pairwise.weights(some, phi)[0].float().abs()
                received = received + weights.sum(dim=0)
                entropies.append(_entropy(weights))
        grid = _pooled(module, seen)
        received = (received / theta.shape[1]).cpu().numpy().reshape(grid.shape)
        entropy = torch.cat(entropies).cpu().numpy().reshape(seen.grid.shape)
        return Summary(received, grid, entropy, seen.grid)

    def _check(self, block: str) -> None:
        if block not in self._seen:
            there = ", ".join(self._seen) or "none: this model has no non-local blocks"
            raise ValueError(f"there is no block {block!r} here; there are: {there}")


def forms_of(module: NonLocalBlock) -> list[str]:
    """Forms that can be told of a block's weights, its own first.

    Embedded Gaussian and dot product want the same theta and phi, and Gaussian neither. The others
    have weights of their own, which only a block trained with them has.
    """
    own = module.pairwise_name
    others = SAME_EMBEDDINGS if own in SAME_EMBEDDINGS else ()
    return list(dict.fromkeys([own, *others, "gaussian"]))


def _in_form(
    module: NonLocalBlock, x: Tensor, form: str
) -> tuple[Pairwise, Tensor, Tensor, Tensor]:
    """A pairwise function and its theta, phi and g, of a block's x (B,C,H,W)."""
    theta, phi, g = module.embed(x)
    if form == module.pairwise_name:
        return module.pairwise, theta, phi, g
    if form == "gaussian":  # of x itself
        theta, phi = (t.flatten(2).transpose(1, 2) for t in (x, module.pool(x)))
    return build_pairwise(form, phi.shape[2], module.pairwise.use_scale), theta, phi, g


def _pooled(module: NonLocalBlock, seen: Seen) -> Grid:
    shape = seen.grid.shape
    pools = module.subsample != "none"
    return seen.grid.pooled((shape[0] // 2, shape[1] // 2)) if pools else seen.grid


def _values(module: NonLocalBlock, g: Tensor) -> Tensor:
    """Norms of W_z g(x_j), of g (M,E)."""
    w_z = module.w_z.weight.flatten(1)  # (C,E)
    if isinstance(module.norm, nn.modules.batchnorm._BatchNorm):
        norm = module.norm
        w_z = w_z * (norm.weight / (norm.running_var + norm.eps).sqrt())[:, None]
    return (g @ w_z.T).norm(dim=-1)


def _entropy(weights: Tensor) -> Tensor:
    """Of rows (n,M) of weights of zero or more, in nats."""
    parts = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-12)
    return torch.special.entr(parts).sum(dim=-1)


def holds(box: Sequence[float] | None, x: float, y: float) -> bool:
    """Whether a point lies in a box (x0, y0, x1, y1); None is everywhere."""
    return box is None or (box[0] <= x <= box[2] and box[1] <= y <= box[3])
