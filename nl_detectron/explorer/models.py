"""Models of the explorer, and their attention records of the images shown last."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from detectron2.config import CfgNode
from detectron2.data import Metadata
from torch import nn

from ..attention import AttentionRecord, record_attention
from ..config import detector_section, is_video
from ..data import CocoDataset
from ..data.video.mapper import test_views
from ..data.video.reader import import_av
from ..data.video.sampling import Views
from ..engine import LoadedModel, build_on_meta, load_config, load_model
from ..errors import UsageError
from ..modeling import find_blocks
from ..prediction.classes import find_class_names
from ..prediction.instances import find_dataset_metadata
from .images import read_small_image

MAX_RECORDS = 8  # images whose records are kept


@dataclass(frozen=True)
class ExplorerModel:
    """A model with its weights, and what the page says of it.

    Attributes:
        title: names of its config and its checkpoint.
        resize: INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
        data_set: the first of DATASETS.TEST, or "".
        classes: their names, where the data set has enough of them.
        views: those of a model of videos; None for one of images.
        untrained: a sentence about what the checkpoint lacks, or "".
    """

    title: str
    model: nn.Module
    resize: tuple[int, int]
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
            "with blocks, such as one of the *_nl_*.yaml below configs/"
        )
    loaded = load_model(cfg)
    return ExplorerModel(
        title=f"{Path(config_file).stem}, {Path(cfg.MODEL.WEIGHTS).name or 'no weights'}",
        model=loaded.model,
        resize=(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        data_set=next(iter(cfg.DATASETS.TEST), ""),
        classes=_find_classes(cfg),
        views=test_views(cfg) if is_video(cfg) else None,
        untrained=_describe_untrained(loaded),
    )


def _find_classes(cfg: CfgNode) -> Metadata:
    if is_video(cfg):
        return Metadata(classes=find_class_names(cfg, say=print))
    _, known = find_dataset_metadata(cfg)
    enough = len(known.get("thing_classes", ())) >= detector_section(cfg).NUM_CLASSES
    return known if enough else Metadata()


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
        image = read_small_image(path, max(m.resize[1] for m in self.models))
        try:
            return [record_attention(m.model, [image], m.resize)[0] for m in self.models]
        except (ValueError, AssertionError, RuntimeError) as error:  # too small, NaN, no memory
            size = "{1} x {0}".format(*image.shape)
            raise UsageError(
                f"{Path(path).name}, {size}: the model could not take it "
                f"({str(error) or type(error).__name__})"
            ) from error
