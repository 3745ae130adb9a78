"""Brings the sizes of a batch's images to the blocks of a backbone (MODEL.NONLOCAL.MASK_PADDING).

A meta-architecture pads the images of a batch to one size, and its backbone sees the padded tensor
only. So the sizes travel with this tensor, as its attribute ``image_sizes``, into the backbone. A
context variable holds them while the backbone runs, from which each block computes the sizes of
its own map. Threads have context variables of their own, so several may use one model.
"""

import math
from collections.abc import Sequence
from contextvars import ContextVar
from types import MethodType
from typing import Any, NamedTuple, cast

from detectron2.structures import ImageList
from torch import Tensor, nn

from ..layers import NonLocalBlock
from ..layers.graphs import is_exporting

KEY = "MODEL.NONLOCAL.MASK_PADDING"


class PaddedSizes(NamedTuple):
    """The height and width of a batch's padded images, and of each image, in pixels."""

    padded: Sequence[int]
    images: Sequence[Sequence[int]]


_running: ContextVar[PaddedSizes | None] = ContextVar("sizes of the running batch", default=None)


def use_image_sizes(backbone: nn.Module, blocks: Sequence[NonLocalBlock]) -> None:
    """Let the blocks of a backbone leave padded positions out, in place.

    The model that the backbone belongs to must attach the sizes of its images
    (:func:`attach_image_sizes`).
    """
    backbone.register_forward_pre_hook(_begin)
    backbone.register_forward_hook(_end, always_call=True)
    for block in blocks:
        block.register_forward_pre_hook(_add_sizes)


def attach_image_sizes(model: nn.Module) -> nn.Module:
    """Let a model attach the sizes of its images to their padded tensor, if its backbone masks
    padding.

    Args:
        model: a model with a backbone, changed in place.

    Returns:
        The model.

    Raises:
        ValueError: the backbone masks padding, but the model pads images in another way than by a
            method ``preprocess_image``, as ProposalNetwork and SemanticSegmentor do.
    """
    if any(_begin in module._forward_pre_hooks.values() for module in model.modules()):
        if not hasattr(model, "preprocess_image"):
            raise ValueError(
                f"{KEY}: {type(model).__name__} pads its images without a method preprocess_image, "
                "from which their sizes could be learned; switch it off, or use a "
                "meta-architecture with this method, such as GeneralizedRCNN, PanopticFPN or "
                "RetinaNet"
            )
        cast(Any, model).preprocess_image = MethodType(_preprocess_image, model)
    return model


def _preprocess_image(model: Any, batched_inputs: list[dict]) -> ImageList:
    images = type(model).preprocess_image(model, batched_inputs)
    setattr(images.tensor, "image_sizes", images.image_sizes)  # noqa: B010  a tensor has no such field
    return images


def _begin(backbone: nn.Module, args: tuple[Tensor, ...]) -> None:
    """Forward pre-hook of the backbone."""
    [x] = args
    sizes = getattr(x, "image_sizes", None)
    if sizes is None and len(x) > 1:
        raise ValueError(
            f"{KEY}: the sizes of the images in this batch are not known. Build the model with "
            "nl_detectron.modeling.build_model, or call nl_detectron.modeling.attach_image_sizes "
            "on it"
        )
    # a single image without sizes is an image without padding
    _running.set(sizes and PaddedSizes(x.shape[-2:], sizes))


def _end(*_: object) -> None:
    """Forward hook of the backbone."""
    _running.set(None)


def _add_sizes(block: NonLocalBlock, args: tuple[Tensor, ...]) -> tuple | None:
    """Forward pre-hook of a block: adds the sizes of the images in its map, if any is padded."""
    running = _running.get()
    if running is None:
        return None
    [x] = args
    sizes = sizes_in_map(running, x.shape[-2:])
    # the pool needs two positions a side, so a thinner image takes a padded one along
    least = 1 if block.subsample == "none" else 2
    sizes = [[max(side, least) for side in size] for size in sizes]
    # a graph may later see images that are padded
    if not is_exporting() and all(size == list(x.shape[-2:]) for size in sizes):
        return None
    return x, sizes


def sizes_in_map(batch: PaddedSizes, shape: Sequence[int]) -> list[list[int]]:
    """The size of each image in positions of a map (H,W), which begins with its first pixels."""
    strides = [stride_of(*sides) for sides in zip(batch.padded, shape, strict=True)]
    return [[-(-side // s) for side, s in zip(size, strides, strict=True)] for size in batch.images]


def stride_of(pixels: int, positions: int) -> int:
    """Stride of a map, a power of two, by a padded side in pixels and in positions."""
    return 2 ** math.ceil(math.log2(pixels / positions))
