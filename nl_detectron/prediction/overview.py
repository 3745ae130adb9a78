"""Truth, predictions and attention side by side: what is found, and where its block looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from matplotlib.figure import Figure
from torch import nn

from ..attention import AttentionRecord, record_attention
from ..attention.draw import arrows, as_image
from ..data.images import read_image
from ..modeling import find_blocks
from .comparison import HEADINGS, SCALE, THRESHOLD, draw_both, save_columns

ROWS = 3
COLOURS = 128  # in fewer, faint edges of objects would vanish in the noise
DPI = 100


def save_overview(cfg: CfgNode, model: nn.Module, path: Path) -> bool:
    """Save a row for each class, of the first image of the first test set that shows it.

    A row has the truth, the predictions, and arrows from the detection with the highest score to
    where the model's first block looks.

    Args:
        cfg: its INPUT.FORMAT must be RGB; images are not resized.
        path: of the PNG.

    Returns:
        False, and nothing is saved, if the model has no blocks.
    """
    blocks = list(find_blocks(model))
    if not blocks:
        return False
    name = cfg.DATASETS.TEST[0]
    metadata = MetadataCatalog.get(name)
    rows = []
    for chosen in choose_images(DatasetCatalog.get(name)):
        image = read_image(chosen["file_name"], "RGB")
        [record] = record_attention(model, [image], (0, 0), image_format="RGB")
        both = draw_both(cfg, image, chosen["annotations"], record.instances, metadata)
        rows.append((*both, draw_arrows(record, chosen["annotations"], blocks[0])))
    save_columns((*HEADINGS, "where the object looks"), rows, path, COLOURS)
    return True


def choose_images(records: Sequence[dict[str, Any]], count: int = ROWS) -> list[dict[str, Any]]:
    """The first image of each class, by its first annotation, and then the first others.

    Args:
        records: in Detectron2's format; those without annotations are left out.
    """
    records = [record for record in records if record["annotations"]]
    first: dict[int, dict[str, Any]] = {}
    for record in records:
        first.setdefault(record["annotations"][0]["category_id"], record)
    chosen = [first[kind] for kind in sorted(first)]
    chosen += [record for record in records if not any(record is one for one in chosen)]
    return chosen[:count]


def draw_arrows(
    record: AttentionRecord, annotations: Sequence[dict[str, Any]], block: str
) -> np.ndarray:
    """Draw arrows from the best detection or, if there is none, from the first annotation.

    Returns:
        RGB uint8, of SCALE times the image's height and width.
    """
    found = record.instances
    if len(found) and found.scores[0] > THRESHOLD:
        box = found.pred_boxes.tensor[0].tolist()
    else:
        first = annotations[0]
        box = list(map(float, BoxMode.convert(first["bbox"], first["bbox_mode"], BoxMode.XYXY_ABS)))
    height, width = record.image.shape[:2]
    x, y = np.clip([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2], 0, [width, height]).tolist()
    figure = Figure(figsize=(SCALE * width / DPI, SCALE * height / DPI))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    attention = record.attention(x, y, block)
    if attention is None:  # a head that did not run on the object
        axes.imshow(record.image)
    else:
        arrows(axes, record.image, attention, box=box)
    return as_image(figure, DPI)
