"""One image through a model, and where each of its non-local blocks looked.

The block keeps no maps. What it was given is caught here, and the weights of the positions that
are asked for are computed anew, a few rows of the (N,M) matrix at a time.

Axes: N positions i of a block, M positions j (fewer under subsampling), C channels.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.structures import Instances
from torch import Tensor, nn

from ..layers import NonLocalBlock
from ..modeling import find_blocks
from .grid import Grid

ROWS_AT_ONCE = 256  # of a whole matrix of weights
RESIZE = (800, 1333)  # Detectron2's INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST


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
class _Seen:
    """What a block was given: x (C,H,W), its grid in the image, and the RoI it is of."""

    x: Tensor
    grid: Grid
    box: tuple[float, float, float, float] | None


class View:
    """An image, what was found in it, and what the blocks saw; made by :func:`look`.

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
        seen: dict[str, list[_Seen]],
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

    def attention(self, x: float, y: float, block: str) -> Attention | None:
        """Where the block's position nearest to a point of the image looks.

        Args:
            x, y: pixels of the image.
            block: one of ``blocks``. One in a head looks within an RoI: the surest that holds the
                point. If none does, there is nothing to tell: None.

        Raises:
            ValueError: a point outside the image, or a block that there is not.
        """
        height, width = self.image.shape[:2]
        if not (0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"expected a point within the image, 0 to {width} and 0 to {height}, got {x}, {y}"
            )
        self._check(block)
        seen = next((s for s in self._seen[block] if _holds(s.box, x, y)), None)
        if seen is None:
            return None
        module = self._modules[block]
        row, column = seen.grid.nearest(x, y)
        with torch.no_grad():
            theta, phi, g = module.embed(seen.x[None])
            one = theta[:, row * seen.grid.shape[1] + column][:, None]
            rows = {
                "weights": module.pairwise.weights(one, phi)[0, 0],
                "values": _values(module, g[0]),
            }
            if hasattr(module.pairwise, "scores"):
                rows["scores"] = module.pairwise.scores(one, phi)[0, 0]
        grid = _pooled(module, seen)
        return Attention(
            block=block,
            form=module.pairwise_name,
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


def look(
    model: nn.Module,
    images: Sequence[np.ndarray],
    resize: tuple[int, int] = RESIZE,
    mirror: bool = False,
) -> list[View]:
    """Run a model on images and keep what its non-local blocks see.

    Args:
        model: of Detectron2; it is in training mode afterwards if it was before.
        images: RGB uint8 (H,W,3), as one batch.
        resize: the shorter side, and at most the longer one, in pixels; 0 leaves images as they
            are. A config has them as INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
        mirror: show the model the images left to right. What the blocks see is told in the images
            as they are; ``found`` is as the model found it.

    Raises:
        ValueError: something that is no RGB uint8 image.
    """
    for image in images:
        _check_image(image)
    inputs = [_as_input(model, image, resize, mirror) for image in images]
    was_training = model.training
    try:
        with torch.no_grad(), _caught(model.eval()) as caught:
            found = model(inputs)
    finally:
        model.train(was_training)
    modules = find_blocks(model)
    divisor = max(model.backbone.size_divisibility, 1)
    return [
        View(
            image,
            {k: v.to("cpu") if hasattr(v, "to") else v for k, v in found[number].items()},
            modules,
            {n: _of_image(caught, n, number, inputs, image, mirror, divisor) for n in modules},
        )
        for number, image in enumerate(images)
    ]


def capture_attention(
    model: nn.Module,
    image: np.ndarray,
    points: Sequence[tuple[float, float]],
    resize: tuple[int, int] = RESIZE,
) -> dict[str, list[Attention | None]]:
    """Where every block of a model looks from each of some points of an image.

    Args:
        model, resize: as in :func:`look`, which keeps detections as well and can be asked again.
        image: RGB uint8 (H,W,3).
        points: x, y in pixels of the image.

    Returns:
        By the block's name one for each point; None where a head has no RoI that holds it.
    """
    [view] = look(model, [image], resize)
    return {block: [view.attention(x, y, block) for x, y in points] for block in view.blocks}


@contextmanager
def _caught(model: nn.Module) -> Iterator[dict[str, tuple]]:
    """What each block and every module with blocks in it was given last: x and, of a head, the
    boxes of each image's RoIs, in pixels of the input."""
    caught: dict[str, tuple] = {}
    handles = []
    parents = {name.rpartition(".")[0] for name in find_blocks(model)}
    for name in (*find_blocks(model), *parents):

        def keep(_, args: tuple, name: str = name) -> None:
            # copied, as Detectron2 scales them to the image later, in place
            boxes = [[i.pred_boxes.tensor.clone() for i in images] for images in args[1:2]]
            caught[name] = (*args[:1], *boxes)

        handles.append(model.get_submodule(name).register_forward_pre_hook(keep))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _of_image(
    caught: dict[str, tuple],
    name: str,
    number: int,
    inputs: list[dict],
    image: np.ndarray,
    mirror: bool,
    divisor: int,
) -> list[_Seen]:
    """What a block saw of one image of a batch: one map, or one for each RoI."""
    if name not in caught:  # a head that was not run: nothing was found
        return []
    [x], outer = caught[name][:1], caught.get(name.rpartition(".")[0], ())
    height, width = inputs[number]["image"].shape[1:]
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    shift = np.array([image.shape[1] if mirror else 0, 0])
    scale[0] *= -1 if mirror else 1
    shape = tuple(x.shape[2:])
    if len(outer) < 2:  # a backbone's
        stride = _stride(max(i["image"].shape[1] for i in inputs), shape[0], divisor)
        grid = Grid((0, 0), (stride, stride), shape).mapped(scale, shift)
        return [_Seen(x[number], grid, None)]
    boxes = [b.cpu().numpy() for b in outer[1]]
    first = sum(len(b) for b in boxes[:number])
    seen = []
    for roi, box in enumerate(boxes[number]):
        grid = Grid.over(box, shape).mapped(scale, shift)
        seen.append(_Seen(x[first + roi], grid, grid.box))
    return seen


def _stride(pixels: int, positions: int, divisor: int) -> int:
    """Pixels from one position to the next, a power of two, of a batch whose highest image has so
    many and is padded to a multiple of ``divisor``."""
    padded = math.ceil(pixels / divisor) * divisor
    return 2 ** math.ceil(math.log2(padded / positions))


def _pooled(module: NonLocalBlock, seen: _Seen) -> Grid:
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


def _holds(box: tuple | None, x: float, y: float) -> bool:
    return box is None or (box[0] <= x <= box[2] and box[1] <= y <= box[3])


def _check_image(image: object) -> None:
    array = isinstance(image, np.ndarray)
    if not array or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if array else type(image).__name__
        raise ValueError(f"expected an RGB image, uint8 (H,W,3), got {what}")


def _as_input(model: nn.Module, image: np.ndarray, resize: tuple[int, int], mirror: bool) -> dict:
    """As Detectron2's DefaultPredictor makes it."""
    height, width = image.shape[:2]
    if mirror:
        image = image[:, ::-1]
    if resize[0]:
        image = (
            ResizeShortestEdge([resize[0]] * 2, resize[1]).get_transform(image).apply_image(image)
        )
    if getattr(model, "input_format", "BGR") == "BGR":
        image = cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2BGR)
    tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
    return {"image": tensor, "height": height, "width": width}
