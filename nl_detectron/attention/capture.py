"""Records the inputs of a model's non-local blocks while it runs on images.

Blocks keep no attention maps. Forward hooks record their inputs and are removed afterwards.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone
from omegaconf import DictConfig
from torch import nn

from ..layers.padding import split_images
from ..modeling import find_blocks
from ..modeling.image_sizes import stride_of
from .geometry import Grid
from .model_input import RESIZE, as_rgb, choose_format, choose_size, make_input
from .record import Attention, AttentionRecord, BlockInput

__all__ = ["RESIZE", "capture_attention", "record_attention"]


def record_attention(
    model: nn.Module,
    images: Sequence[np.ndarray],
    resize: tuple[int, int] | None = None,
    mirror: bool = False,
    *,
    image_format: str,
    cfg: CfgNode | DictConfig | None = None,
) -> list[AttentionRecord]:
    """Run a model on images and record the inputs of its non-local blocks.

    Args:
        model: a Detectron2 model. It runs in evaluation mode; its mode is restored afterwards.
        images: uint8 (H,W,3), one batch.
        resize: length of the shorter side and maximum of the longer one in pixels; a 0 keeps the
            size. By default INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST of ``cfg``.
        mirror: flip the images horizontally before they enter the model. Positions are those of
            the unflipped images; ``found`` is as the model returned it.
        image_format: ``"RGB"``, as Pillow reads images, or ``"BGR"``, as OpenCV does.
        cfg: the model's config, whose INPUT.FORMAT is the format that the model takes
            (dataloader.test.mapper.image_format of a LazyConfig); by default
            ``model.input_format``.

    Raises:
        ValueError: an input is not a uint8 image, no size is given, or nothing says which format
            the model takes.
    """
    images = [as_rgb(image, image_format) for image in images]
    size, model_format = choose_size(resize, cfg), choose_format(model, cfg)
    inputs = [make_input(image, size, model_format, mirror) for image in images]
    was_training = model.training
    try:
        with torch.no_grad(), capture_inputs(model.eval()) as caught:
            found = model(inputs)
    finally:
        model.train(was_training)
    modules = find_blocks(model)
    divisor = max(cast(Backbone, model.backbone).size_divisibility, 1)
    return [
        AttentionRecord(
            image,
            {k: v.to("cpu") if hasattr(v, "to") else v for k, v in found[number].items()},
            modules,
            {
                n: _inputs_of_image(caught, n, number, inputs, image, mirror, divisor)
                for n in modules
            },
        )
        for number, image in enumerate(images)
    ]


def capture_attention(
    model: nn.Module,
    image: np.ndarray,
    points: Sequence[tuple[float, float]],
    resize: tuple[int, int] | None = None,
    *,
    image_format: str,
    cfg: CfgNode | DictConfig | None = None,
) -> dict[str, list[Attention | None]]:
    """Attention of every block of a model at some points of an image.

    :func:`record_attention` returns the detections as well and needs one forward pass for any
    number of points.

    Args:
        model, resize, image_format, cfg: as in :func:`record_attention`.
        image: uint8 (H,W,3).
        points: x, y in pixels of the image.

    Returns:
        For each block's name one item for each point; None if no RoI of a head contains it.
    """
    [record] = record_attention(model, [image], resize, image_format=image_format, cfg=cfg)
    return {block: [record.attention(x, y, block) for x, y in points] for block in record.blocks}


@contextmanager
def capture_inputs(model: nn.Module) -> Iterator[dict[str, tuple]]:
    """Latest input of each block, x and the sizes of its images if they are padded, and of each
    module that contains blocks, x and, for a head, the boxes of each image's RoIs in pixels of the
    input."""
    caught: dict[str, tuple] = {}
    handles = []
    blocks = find_blocks(model)
    parents = {name.rpartition(".")[0] for name in blocks}
    for name in (*blocks, *parents):

        def keep(_, args: tuple, name: str = name) -> None:
            if name in blocks:
                caught[name] = args
                return
            # copied, as Detectron2 scales them to the image later, in place
            boxes = [[i.pred_boxes.tensor.clone() for i in images] for images in args[1:2]]
            caught[name] = (*args[:1], *boxes)

        handles.append(model.get_submodule(name).register_forward_pre_hook(keep))
    try:
        yield caught
    finally:
        for handle in handles:
            handle.remove()


def _inputs_of_image(
    caught: dict[str, tuple],
    name: str,
    number: int,
    inputs: list[dict],
    image: np.ndarray,
    mirror: bool,
    divisor: int,
) -> list[BlockInput]:
    """Inputs of a block for one image of a batch: one map, or one for each RoI."""
    if name not in caught:  # a head that was not run: nothing was found
        return []
    x, *sizes = caught[name]
    outer = caught.get(name.rpartition(".")[0], ())
    height, width = inputs[number]["image"].shape[1:]
    scale = np.array([image.shape[1] / width, image.shape[0] / height])
    shift = np.array([image.shape[1] if mirror else 0, 0])
    scale[0] *= -1 if mirror else 1
    shape = tuple(x.shape[2:])
    if len(outer) < 2:  # a backbone's
        stride = _stride(max(i["image"].shape[1] for i in inputs), shape[0], divisor)
        # without the padding, if the block leaves it out
        own = split_images(x, *sizes)[number][0] if sizes else x[number]
        _, rows, columns = own.shape
        grid = Grid((0, 0), (stride, stride), (rows, columns)).mapped(scale, shift)
        return [BlockInput(own, grid, None)]
    boxes = [b.cpu().numpy() for b in outer[1]]
    first = sum(len(b) for b in boxes[:number])
    seen = []
    for roi, box in enumerate(boxes[number]):
        grid = Grid.over(box, shape).mapped(scale, shift)
        seen.append(BlockInput(x[first + roi], grid, grid.box))
    return seen


def _stride(pixels: int, positions: int, divisor: int) -> int:
    """Stride in pixels, a power of two, of a map of a batch.

    Args:
        pixels: height of the highest image, which is padded to a multiple of ``divisor``.
        positions: height of the map.
    """
    padded = math.ceil(pixels / divisor) * divisor
    return stride_of(padded, positions)
