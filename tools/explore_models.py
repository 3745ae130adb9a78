"""What the explorer looks with and at: models, images, and the records that it has had."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.data.detection_utils import read_image
from PIL import Image
from torch import nn

from nl_detectron.attention import AttentionRecord, record_attention
from nl_detectron.config import detector_section
from nl_detectron.data import CocoDataset
from nl_detectron.engine import Checkpointer, build_on_meta, load_config
from nl_detectron.engine.checkpoint import fresh_outside_blocks, read_checkpoint
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
KEPT = 8  # images whose records are kept


@dataclass(frozen=True)
class Loaded:
    """A model to look through.

    Attributes:
        title: its config's and checkpoint's names.
        resize: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
        data_set: the first of DATASETS.TEST; or "".
        classes: names for what it finds, where that data set tells them.
        untrained: in words, what its checkpoint did not give; or "".
    """

    title: str
    model: nn.Module
    resize: tuple[int, int]
    data_set: str
    classes: Metadata
    untrained: str


def load(config_file: str, opts: list[str], data: Sequence[CocoDataset] = ()) -> Loaded:
    """The model of a config, with its checkpoint's weights.

    Raises:
        UsageError: a config or a checkpoint that will not do, or a model without blocks.
    """
    cfg = load_config(config_file, opts, data)
    if not find_blocks(build_on_meta(cfg)):
        raise UsageError(
            f"{config_file}: this model has no non-local blocks to look through; name a config "
            "with blocks, such as one of the *_nl_*.yaml below configs/"
        )
    weights = cfg.MODEL.WEIGHTS
    if weights:
        read_checkpoint(weights)
    model = build_model(cfg).eval()
    checkpointer = Checkpointer(model)
    checkpointer.load(weights)
    return Loaded(
        title=f"{Path(config_file).stem}, {Path(weights).name or 'no weights'}",
        model=model,
        resize=(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        data_set=next(iter(cfg.DATASETS.TEST), ""),
        classes=_classes(cfg),
        untrained=_untrained(checkpointer),
    )


def _classes(cfg: CfgNode) -> Metadata:
    name = next(iter((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)), "")
    known = MetadataCatalog.get(name) if name else Metadata()
    enough = len(known.get("thing_classes", ())) >= detector_section(cfg).NUM_CLASSES
    return known if enough else Metadata()


def _untrained(checkpointer: Checkpointer) -> str:
    fresh = tuple(checkpointer.fresh)
    blocks = [b for b in find_blocks(checkpointer.model) if any(n.startswith(b) for n in fresh)]
    others = fresh_outside_blocks(checkpointer)
    told = []
    if blocks:
        told.append("tensors of " + ", ".join(blocks))
    if others:
        parts = sorted({name.split(".")[0] for name in others})
        told.append(f"{len(others)} tensors of {', '.join(parts)}, so detections say little")
    return f"Not in the checkpoint, so untrained: {'; '.join(told)}." if told else ""


def find_images(places: Sequence[str]) -> list[Path]:
    """The files named, and those in the folders named.

    Raises:
        UsageError: a place that does not exist, or a folder without images.
    """
    found: list[Path] = []
    for place in map(Path, places):
        if place.is_dir():
            here = sorted(p for p in place.iterdir() if p.suffix.lower() in SUFFIXES)
            if not here:
                raise UsageError(f"--images {place}: no image in it ({' '.join(SUFFIXES)})")
            found += here
        elif place.is_file():
            found.append(place)
        else:
            raise UsageError(f"--images {place}: expected a file or a folder, there is none")
    return list(dict.fromkeys(found))


def of_data_set(model: Loaded) -> list[Path]:
    """The images of a model's data set; none where it is not here, since one can be uploaded."""
    try:
        return [Path(r["file_name"]) for r in DatasetCatalog.get(model.data_set)]
    except (KeyError, OSError):
        return []


def read(path: str | Path, most: int) -> np.ndarray:
    """An image file as RGB uint8 (H,W,3), its longer side no more than so many pixels.

    Raises:
        UsageError: it is no image, or a broken one.
    """
    try:
        image = read_image(path, "RGB")
    except Exception as error:  # each format of Pillow's raises its own
        raise UsageError(
            f"{Path(path).name} cannot be read as an image; it is broken, or of a format that is "
            f"not known here: try a JPEG or a PNG ({type(error).__name__})"
        ) from error
    height, width = image.shape[:2]
    if max(height, width) <= most:
        return image
    size = [max(round(side * most / max(height, width)), 1) for side in (width, height)]
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))


class Explorer:
    """Models, and their records of the images that were looked at last: a click needs no model."""

    def __init__(self, models: Sequence[Loaded]):
        self.models = models
        self._records: OrderedDict[str, list[AttentionRecord]] = OrderedDict()
        self._lock = Lock()  # a record is caught by hooks on the model

    def records(self, path: str) -> list[AttentionRecord]:
        """One of each model.

        Raises:
            UsageError: no image, or one that a model cannot take.
        """
        with self._lock:
            if path not in self._records:
                self._records[path] = self._record(path)
            self._records.move_to_end(path)
            while len(self._records) > KEPT:
                self._records.popitem(last=False)
            return self._records[path]

    def _record(self, path: str) -> list[AttentionRecord]:
        # no model sees more pixels than this, and pictures of fewer are drawn sooner
        image = read(path, max(m.resize[1] for m in self.models))
        try:
            return [record_attention(m.model, [image], m.resize)[0] for m in self.models]
        except (ValueError, AssertionError, RuntimeError) as error:  # too small, NaN, no memory
            size = "{1} x {0}".format(*image.shape)
            raise UsageError(
                f"{Path(path).name}, {size}: the model could not take it "
                f"({str(error) or type(error).__name__})"
            ) from error
