"""Models of the explorer, and their attention records of the images shown last."""

import os
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from detectron2.config import CfgNode
from detectron2.data import Metadata
from torch import nn

from ..attention import AttentionRecord, record_attention
from ..config import is_video
from ..data import CocoDataset
from ..data.video.mapper import test_views
from ..data.video.reader import import_av
from ..data.video.sampling import Views
from ..engine import LoadedModel, build_on_meta, load_config, load_model
from ..engine.config_files import SHOWN
from ..errors import UsageError
from ..modeling import find_blocks
from ..prediction.classes import find_class_names
from ..prediction.instances import make_class_metadata
from .images import read_small_image

MAX_RECORDS = 8  # images whose records are kept
SEED = re.compile(r"seed[-_]?\d+")  # the folder of one of several runs


@dataclass(frozen=True)
class ExplorerModel:
    """A model with its weights, and what the page says of it.

    Attributes:
        title: names of its config, or of its run's folder, and of its checkpoint.
        cfg: its config.
        data_set: the first of DATASETS.TEST, or "".
        classes: of :func:`make_class_metadata`.
        views: those of a model of videos; None for one of images.
        untrained: a sentence about what the checkpoint lacks, or "".
    """

    title: str
    model: nn.Module
    cfg: CfgNode
    data_set: str
    classes: Metadata
    views: Views | None
    untrained: str


def load_explorer_model(
    config_file: str, opts: Sequence[str], data: Sequence[CocoDataset] = ()
) -> ExplorerModel:
    """Build the model of a config with its checkpoint's weights.

    Raises:
        UsageError: a config or a checkpoint that will not do, a model without blocks, or one of
            videos without PyAV.
    """
    cfg = load_config(config_file, opts, data)
    if is_video(cfg):
        import_av()
    if not find_blocks(build_on_meta(cfg)):
        raise UsageError(
            f"{config_file}: this model has no non-local blocks to look through; name a config "
            f"with blocks, such as one of the *_nl_*.yaml below {SHOWN}"
        )
    loaded = load_model(cfg)
    return ExplorerModel(
        title=f"{name_config(config_file)}, {Path(cfg.MODEL.WEIGHTS).name or 'no weights'}",
        model=loaded.model,
        cfg=cfg,
        data_set=next(iter(cfg.DATASETS.TEST), ""),
        classes=_find_classes(cfg),
        views=test_views(cfg) if is_video(cfg) else None,
        untrained=_describe_untrained(loaded),
    )


def name_config(config_file: str) -> str:
    """A config's name or, of the config.yaml that a run writes, that of the run: its folder's, with
    the one above if that is the run's seed."""
    path = Path(os.path.abspath(config_file))
    if path.stem != "config":
        return path.stem
    folder = path.parent
    return f"{folder.parent.name}/{folder.name}" if SEED.fullmatch(folder.name) else folder.name


def _find_classes(cfg: CfgNode) -> Metadata:
    if is_video(cfg):
        return Metadata(classes=find_class_names(cfg, say=print))
    return make_class_metadata(cfg, lambda _: None)  # classes without names have numbers


def _describe_untrained(loaded: LoadedModel) -> str:
    blocks, others = loaded.untrained_blocks, loaded.untrained
    parts = []
    if blocks:
        parts.append("tensors of " + ", ".join(blocks))
    if others:
        modules = sorted({name.split(".")[0] for name in others})
        parts.append(f"{len(others)} tensors of {', '.join(modules)}, so predictions say little")
    return f"Not in the checkpoint, so untrained: {'; '.join(parts)}." if parts else ""


class Explorer:
    """Runs models on images and keeps the last records: a click then needs no model.

    Args:
        models: of :func:`load_explorer_model`.
    """

    def __init__(self, models: Sequence[ExplorerModel]):
        self.models = models
        self._records: OrderedDict[str, list[AttentionRecord]] = OrderedDict()
        self._lock = Lock()  # a record is made by hooks on the model

    def get_records(self, path: str) -> list[AttentionRecord]:
        """One record of an image file for each model.

        Raises:
            UsageError: a file that is no image, or an image that a model cannot take.
        """
        with self._lock:
            if path not in self._records:
                self._records[path] = self._record(path)
            self._records.move_to_end(path)
            while len(self._records) > MAX_RECORDS:
                self._records.popitem(last=False)
            return self._records[path]

    def _record(self, path: str) -> list[AttentionRecord]:
        # no model sees more pixels than this, and pictures of fewer are drawn sooner
        image = read_small_image(path, max(m.cfg.INPUT.MAX_SIZE_TEST for m in self.models))
        try:
            return [
                record_attention(m.model, [image], image_format="RGB", cfg=m.cfg)[0]
                for m in self.models
            ]
        except (ValueError, AssertionError, RuntimeError) as error:  # too small, NaN, no memory
            size = "{1} x {0}".format(*image.shape)
            raise UsageError(
                f"{Path(path).name}, {size}: the model could not take it "
                f"({str(error) or type(error).__name__})"
            ) from error
