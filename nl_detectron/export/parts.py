"""The exported part of a model of images, a whole detector or its backbone, and images to check it
on."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import detectron2.modeling
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.export import TracingAdapter
from detectron2.export.flatten import InstancesSchema
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.images import read_image
from ..errors import UsageError


class ExportPart(NamedTuple):
    """What is exported.

    Attributes:
        module: takes one image and returns a tuple of tensors.
        output_names: the names of those tensors.
        images: the first is the example to trace with; the export is checked on all of them. They
            are images, or batches of clips (B,3,T,H,W).
        step: the images' sides are multiples of it.
        min_steps: the smallest side, in steps.
        input_name: image, of any size; or clips, of any number.
    """

    module: nn.Module
    output_names: list[str]
    images: list[Tensor]
    step: int = 1
    min_steps: int = 1
    input_name: str = "image"


class NormalizedBackbone(nn.Module):
    """The backbone on pixels: (1,3,H,W) to a map of each level, normalised as GeneralizedRCNN does.

    H and W are multiples of the backbone's ``size_divisibility``; a detector pads with zeros after
    it has normalised.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, model: nn.Module):
        super().__init__()
        self.backbone = backbone_of(model)
        self.register_buffer("pixel_mean", cast(Tensor, model.pixel_mean))
        self.register_buffer("pixel_std", cast(Tensor, model.pixel_std))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone((image - self.pixel_mean) / self.pixel_std)
        return tuple(features[name] for name in self.backbone.output_shape())


def backbone_of(model: nn.Module) -> detectron2.modeling.Backbone:
    """The backbone of any of Detectron2's meta-architectures."""
    return cast(detectron2.modeling.Backbone, model.backbone)


def detector_part(model: nn.Module, cfg: CfgNode, image_file: str | None) -> ExportPart:
    """The whole detector but for its last step, which scales detections to another image size.

    Args:
        model: in inference mode.
        cfg: its config.
        image_file: what the export is checked on; noise by default.

    Raises:
        UsageError: another model than GeneralizedRCNN with a proposal generator, or an image that
            cannot be read.
    """
    if not (isinstance(model, GeneralizedRCNN) and model.proposal_generator):
        raise UsageError(
            "a whole detector is exported of GeneralizedRCNN with a proposal generator, and this "
            f"is {type(model).__name__} with MODEL.PROPOSAL_GENERATOR.NAME "
            f"{cfg.MODEL.PROPOSAL_GENERATOR.NAME}; --format onnx and torch_export take the "
            "backbone of any model"
        )

    def detect(model: GeneralizedRCNN, inputs: list[dict]) -> Instances:
        return model.inference(inputs, do_postprocess=False)[0]

    images = make_images(cfg, image_file)
    adapter = TracingAdapter(model, [{"image": images[0]}], detect)
    adapter(images[0])  # it learns its outputs
    schema = cast(InstancesSchema, adapter.outputs_schema)
    return ExportPart(adapter, [*schema.keys, "image_size"], images)


def backbone_part(model: nn.Module, cfg: CfgNode, image_file: str | None) -> ExportPart:
    """The backbone with its FPN and blocks, of any model.

    Args:
        model, cfg, image_file: as for :func:`detector_part`.

    Raises:
        UsageError: an image that cannot be read.
    """
    backbone = backbone_of(model)
    levels = backbone.output_shape()
    step = max(backbone.size_divisibility, 1)
    # two positions a side on every level, also on one of stride 32 that a block has pooled
    min_steps = max(128, *(2 * (level.stride or 1) for level in levels.values())) // step
    images = [image[None] for image in make_images(cfg, image_file, step, min_steps)]
    module = NormalizedBackbone(model).eval()
    return ExportPart(module, list(levels), images, step, min_steps)


def make_images(
    cfg: CfgNode, image_file: str | None, step: int = 1, min_steps: int = 1
) -> list[Tensor]:
    """One image at three sizes about the config's test size, landscape, portrait and small.

    Returns:
        Three images (3,H,W), float32 of 0 to 255, on the config's device.

    Raises:
        UsageError: a file that cannot be read.
    """
    if image_file:
        try:
            pixels = torch.from_numpy(read_image(image_file, cfg.INPUT.FORMAT).astype(np.float32))
        except Exception as error:  # PIL and numpy raise their own
            raise UsageError(f"--image {image_file}: cannot be read ({error})") from error
        image = pixels.permute(2, 0, 1)[None]
    else:
        image = 255 * torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    side = cfg.INPUT.MIN_SIZE_TEST or 800
    sizes = (side, side * 4 // 3), (side * 5 // 4, side), (side // 2, side * 3 // 4)
    return [_resize(image, size, step, min_steps).to(cfg.MODEL.DEVICE) for size in sizes]


def _resize(image: Tensor, size: Sequence[int], step: int, min_steps: int) -> Tensor:
    allowed = [max(round(side / step), min_steps) * step for side in size]
    return F.interpolate(image, allowed, mode="bilinear", antialias=True)[0]
