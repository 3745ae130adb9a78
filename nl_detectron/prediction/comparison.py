"""Truth beside predictions: the same class has the same colour on both sides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import BoxMode, Instances
from PIL import Image
from torch import nn

from ..data.images import read_image
from ..visualizer import Visualizer
from .instances import format_labels

THRESHOLD = 0.5  # least score of a detection that is drawn
SCALE = 2  # of the picture over the images while it is drawn
FRAME = 4  # white pixels around each image


@torch.no_grad()
def save_comparison(cfg: CfgNode, model: nn.Module, path: Path, count: int = 6) -> None:
    """Save truth (left) and predictions (right) on the first images of the first test set.

    Args:
        cfg: its INPUT.FORMAT must be RGB; images are not resized.
        path: of the PNG.
    """
    name = cfg.DATASETS.TEST[0]
    metadata = MetadataCatalog.get(name)
    model.eval()
    rows = []
    for record in DatasetCatalog.get(name)[:count]:
        image = read_image(record["file_name"], "RGB")
        tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        found = model([{"image": tensor}])[0]["instances"].to("cpu")
        found = found[found.scores > THRESHOLD]
        annotations = [_drop_unpredicted(cfg, a) for a in record["annotations"]]
        sides = (
            draw_annotations(image, annotations, metadata),
            draw_detections(image, found, metadata),
        )
        rows.append(np.hstack([_add_frame(side) for side in sides]))
    picture = Image.fromarray(np.vstack(rows)).reduce(SCALE)
    # in 256 colours: the noise of relay images makes a PNG of all colours four times as large
    picture = picture.quantize(method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def draw_annotations(
    image: np.ndarray, annotations: Sequence[dict[str, Any]], metadata: Metadata
) -> np.ndarray:
    """Draw annotations in Detectron2's format, which all have a box and the same other parts.

    Args:
        image: RGB uint8 (H,W,3).
        metadata: with ``thing_classes`` and ``thing_colors``.

    Returns:
        RGB uint8 (2H,2W,3).
    """
    classes = [a["category_id"] for a in annotations]
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    parts: dict[str, Any] = {"boxes": np.array(boxes).reshape(-1, 4)}
    if annotations and "segmentation" in annotations[0]:
        parts["masks"] = [a["segmentation"] for a in annotations]
    if annotations and "keypoints" in annotations[0]:
        parts["keypoints"] = np.array([a["keypoints"] for a in annotations]).reshape(
            len(annotations), -1, 3
        )
    labels = [metadata.thing_classes[c] for c in classes]
    return _draw(image, metadata, classes, labels=labels, **parts)


def draw_detections(image: np.ndarray, found: Instances, metadata: Metadata) -> np.ndarray:
    """Draw a model's detections as :func:`draw_annotations` draws annotations."""
    parts = {"boxes": found.pred_boxes, "labels": format_labels(found, metadata)}
    if found.has("pred_masks"):
        parts["masks"] = found.pred_masks
    if found.has("pred_keypoints"):
        parts["keypoints"] = found.pred_keypoints
    return _draw(image, metadata, found.pred_classes.tolist(), **parts)


def _draw(
    image: np.ndarray, metadata: Metadata, classes: Sequence[int], **parts: Any
) -> np.ndarray:
    colours = [np.array(metadata.thing_colors[c]) / 255 for c in classes]
    drawn = Visualizer(image, metadata, SCALE).overlay_instances(assigned_colors=colours, **parts)
    return drawn.get_image()


def _add_frame(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((FRAME, FRAME), (FRAME, FRAME), (0, 0)), constant_values=255)


def _drop_unpredicted(cfg: CfgNode, annotation: dict[str, Any]) -> dict[str, Any]:
    """An annotation without keypoints or mask where the model does not predict them."""
    hidden = set()
    if not cfg.MODEL.KEYPOINT_ON:
        hidden.add("keypoints")
    if not cfg.MODEL.MASK_ON:
        hidden.add("segmentation")
    return {key: value for key, value in annotation.items() if key not in hidden}
