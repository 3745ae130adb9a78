"""Makes a Detectron2 model's input from an image, as its config or the caller says."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import convert_PIL_to_numpy
from detectron2.data.transforms import ResizeShortestEdge
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import nn

RESIZE = (800, 1333)  # Detectron2's defaults of INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST
IMAGE_FORMATS = ("RGB", "BGR")


def as_rgb(image: object, image_format: str) -> np.ndarray:
    """An image (H,W,3) of a format as RGB.

    Raises:
        ValueError: it is no uint8 image with three channels, or there is no such format.
    """
    if image_format not in IMAGE_FORMATS:
        raise ValueError(
            f'image_format: expected "RGB" (Pillow) or "BGR" (OpenCV), got {image_format!r}'
        )
    array = isinstance(image, np.ndarray)
    if not array or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        what = f"{image.dtype} {image.shape}" if array else type(image).__name__
        raise ValueError(f"expected an {image_format} image, uint8 (H,W,3), got {what}")
    return image if image_format == "RGB" else np.ascontiguousarray(image[:, :, ::-1])


def choose_size(resize: Sequence[int] | None, cfg: CfgNode | DictConfig | None) -> Sequence[int]:
    """Length of the shorter side and maximum of the longer one, as given or of a config.

    Raises:
        ValueError: neither gives them.
    """
    if resize is not None:
        return resize
    if isinstance(cfg, CfgNode):
        return cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST
    raise ValueError(
        "expected the size that the model is for: cfg=, the model's YAML config, or resize=, the "
        f"shorter side in pixels and the maximum of the longer one, such as {RESIZE} "
        "(INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST), (0, 0) to keep the size, or load_model's "
        "run.resize"
    )


def choose_format(model: nn.Module, cfg: CfgNode | DictConfig | None) -> str:
    """Format of a model's input, of a config or, without one, of the model itself.

    Raises:
        ValueError: neither says it.
    """
    found: Any = getattr(model, "input_format", None)
    if isinstance(cfg, CfgNode):
        found = cfg.INPUT.FORMAT
    elif cfg is not None:
        found = found or OmegaConf.select(cfg, "dataloader.test.mapper.image_format")
    if not found:
        raise ValueError(
            f"{type(model).__name__} does not say whether it takes RGB or BGR; give cfg=, its "
            "config, or set model.input_format"
        )
    return found


def make_input(image: np.ndarray, resize: Sequence[int], model_format: str, mirror: bool) -> dict:
    """Input of a model, made as by Detectron2's DefaultPredictor.

    Args:
        image: RGB uint8 (H,W,3).
        resize: of :func:`choose_size`.
        model_format: of :func:`choose_format`.
        mirror: flip the image horizontally.
    """
    height, width = image.shape[:2]
    if mirror:
        image = image[:, ::-1]
    if resize[0]:
        shortest = ResizeShortestEdge([resize[0]] * 2, resize[1])
        image = shortest.get_transform(image).apply_image(image)
    pixels = convert_PIL_to_numpy(Image.fromarray(np.ascontiguousarray(image)), model_format)
    tensor = torch.as_tensor(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
    return {"image": tensor, "height": height, "width": width}
