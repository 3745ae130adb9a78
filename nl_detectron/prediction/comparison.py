"""Truth beside predictions: the same class has the same colour on both sides."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import BoxMode, Instances
from PIL import Image, ImageDraw, ImageFont
from torch import nn

from ..data.images import read_image
from ..visualizer import Visualizer
from .instances import describe_instances, format_labels

THRESHOLD = 0.5  # least score of a detection that is drawn
SCALE = 2  # of the pictures over the images
FRAME = 8  # white pixels around each picture
HEADING, TEXT = 40, 22  # pixels of the line above the columns, and of its letters
HEADINGS = ("truth", "predicted")


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
        rows.append(draw_both(cfg, image, record["annotations"], found, metadata))
    save_columns(HEADINGS, rows, path)


def draw_both(
    cfg: CfgNode,
    image: np.ndarray,
    annotations: Sequence[dict[str, Any]],
    found: Instances,
    metadata: Metadata,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw :func:`draw_annotations` of what the model predicts, and :func:`draw_detections`."""
    annotations = [_drop_unpredicted(cfg, a) for a in annotations]
    sure = found[found.scores > THRESHOLD]
    return draw_annotations(image, annotations, metadata), draw_detections(image, sure, metadata)


def save_columns(
    headings: Sequence[str], rows: Sequence[Sequence[np.ndarray]], path: Path, colours: int = 256
) -> None:
    """Save rows of pictures, RGB uint8 of one size, with a heading above each column, as a PNG.

    Args:
        colours: the noise of relay images makes a PNG of all colours four times as large.
    """
    stacked = np.vstack([np.hstack([_add_frame(cell) for cell in row]) for row in rows])
    picture = Image.new("RGB", (stacked.shape[1], stacked.shape[0] + HEADING), "white")
    picture.paste(Image.fromarray(stacked), (0, HEADING))
    draw = ImageDraw.Draw(picture)
    wide = stacked.shape[1] / len(headings)
    for number, heading in enumerate(headings):
        place = ((number + 0.5) * wide, HEADING / 2 + FRAME / 4)
        draw.text(place, heading, fill="black", font=find_font(heading, wide), anchor="mm")
    picture = picture.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)


def find_font(text: str, width: float) -> ImageFont.FreeTypeFont:
    """A font, Matplotlib's own, in which a text is not wider than ``width`` pixels."""
    file = str(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"))
    size = TEXT
    while size > 6 and ImageFont.truetype(file, size).getlength(text) > width:
        size -= 1
    return ImageFont.truetype(file, size)


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
    return _draw(image, metadata, classes, SCALE, labels=labels, **parts)


def draw_detections(
    image: np.ndarray, found: Instances, metadata: Metadata, scale: float = SCALE
) -> np.ndarray:
    """Draw a model's detections as :func:`draw_annotations` draws annotations.

    Args:
        scale: of the picture over the image.
    """
    if not len(found):  # which may have no fields then
        return _draw(image, metadata, [], scale)
    parts = {"boxes": found.pred_boxes, "labels": format_labels(found, metadata)}
    if found.has("pred_masks"):
        # as RLE: the Visualizer takes an array of two columns for a list of points
        parts["masks"] = [row["mask"] for row in describe_instances(found, metadata)]
    if found.has("pred_keypoints"):
        parts["keypoints"] = found.pred_keypoints
    return _draw(image, metadata, found.pred_classes.tolist(), scale, **parts)


def _draw(
    image: np.ndarray, metadata: Metadata, classes: Sequence[int], scale: float, **parts: Any
) -> np.ndarray:
    colours = [np.array(metadata.thing_colors[c]) / 255 for c in classes]
    drawn = Visualizer(image, metadata, scale).overlay_instances(assigned_colors=colours, **parts)
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
