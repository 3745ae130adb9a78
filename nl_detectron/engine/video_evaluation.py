"""Evaluation of video models: scores of each video, which are kept on disk, and their metrics."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.video.dataset import check_classes
from ..data.video.mapper import test_views
from ..errors import UsageError
from .data_loaders import build_video_loader
from .video_metrics import accuracy, mean_average_precision
from .video_scores import ScoreFiles, Scores, VideoScores, fingerprint
from .workers import protect_workers

logger = logging.getLogger(__name__)


class VideoEvaluator(DatasetEvaluator):
    """Top-1 and top-5 accuracy, or mean average precision, in percent.

    Results are ``{"video": {...}}`` with ``top1`` and ``top5`` (of more than five classes), or
    ``mAP``, of a video's views together, and the same with ``_1view`` of the middle clip's centre
    crop alone. With ``one_view`` there are the latter only.

    Args:
        records: of all videos of the data set, as of Detectron2's catalog.
        multi_label: whether records have ``labels`` rather than ``label``.
        ensemble: "average" or "max" over views.
        middle: number of the view that counts alone.
        one_view: whether this is the only view.
        files: keeps the scores of each video; None keeps none.
        known: scores that an evaluation which was stopped has left.
    """

    def __init__(
        self,
        records: Sequence[dict],
        *,
        multi_label: bool = False,
        ensemble: str = "average",
        middle: int = 0,
        one_view: bool = False,
        files: ScoreFiles | None = None,
        known: Scores | None = None,
    ):
        self.records, self.multi_label, self.ensemble = records, multi_label, ensemble
        self.middle, self.one_view, self.files = (0 if one_view else middle), one_view, files
        self.known: Scores = known or {}
        self.reset()

    def reset(self) -> None:
        self.scores = dict(self.known)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        for sample, output in zip(inputs, outputs, strict=True):
            views = output["scores"].float().cpu().numpy()
            if not np.isfinite(views).all():
                raise UsageError(
                    f"video {sample['file_name']}: the model's scores are NaN or infinite; its "
                    "weights are of no use"
                )
            together = views.max(axis=0) if self.ensemble == "max" else views.mean(axis=0)
            scores = VideoScores(together, views[self.middle])
            self.scores[sample["video_id"]] = scores
            if self.files:
                self.files.append(sample["video_id"], scores)

    def evaluate(self) -> dict[str, dict[str, float]]:
        """Compute the metrics in the first process; the others return nothing.

        Raises:
            RuntimeError: a video has no scores.
        """
        gathered = cast(list[Scores], comm.gather(self.scores))
        if not comm.is_main_process():
            return {}
        scores = {name: found for part in gathered for name, found in part.items()}
        lacking = [r["video_id"] for r in self.records if r["video_id"] not in scores]
        if lacking:
            raise RuntimeError(f"{len(lacking)} videos were not evaluated, such as {lacking[0]}")
        of_videos = [scores[record["video_id"]] for record in self.records]
        results = {} if self.one_view else self._measure(np.stack([s.ensemble for s in of_videos]))
        alone = self._measure(np.stack([s.one_view for s in of_videos]))
        return {"video": results | {f"{name}_1view": value for name, value in alone.items()}}

    def _measure(self, scores: np.ndarray) -> dict[str, float]:
        if self.multi_label:
            value, classes = mean_average_precision(scores, [r["labels"] for r in self.records])
            if classes < scores.shape[1]:
                logger.info("mAP is over the %d of %d classes", classes, scores.shape[1])
            return {"mAP": value}
        labels = [record["label"] for record in self.records]
        tops = (1, 5) if scores.shape[1] > 5 else (1,)
        return {f"top{top}": accuracy(scores, labels, top) for top in tops}


def build_video_evaluator(
    cfg: CfgNode,
    records: Sequence[dict],
    files: ScoreFiles | None = None,
    known: Scores | None = None,
) -> VideoEvaluator:
    """Build the evaluator of some videos by TEST.VIDEO."""
    test = cfg.TEST.VIDEO
    return VideoEvaluator(
        records,
        multi_label=cfg.MODEL.VIDEO.MULTI_LABEL,
        ensemble=test.ENSEMBLE,
        middle=test.CLIPS // 2 * test.CROPS + test.CROPS // 2,
        one_view=test.ONE_VIEW,
        files=files,
        known=known,
    )


def evaluate_videos(cfg: CfgNode, model: nn.Module, dataset_name: str) -> dict[str, Any]:
    """Evaluate a model on a data set of videos, in all processes together.

    The scores of each video are kept in ``OUTPUT_DIR/inference/NAME``. An evaluation of the same
    weights by the same config, in any number of processes, goes on from there.

    Returns:
        The results of :class:`VideoEvaluator`, in the first process only.
    """
    records = DatasetCatalog.get(dataset_name)
    check_classes(dataset_name, cfg.MODEL.VIDEO.NUM_CLASSES)
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    # the first process's: statistics of BN can differ between processes
    key = str(comm.all_gather(fingerprint(bare, _settings(cfg), records))[0])
    files = ScoreFiles(Path(cfg.OUTPUT_DIR, "inference", dataset_name), key, comm.get_rank())
    known = files.start() if comm.is_main_process() else {}
    names = set(cast(list[str], comm.all_gather(list(known))[0]))
    if not comm.is_main_process():  # after the first, which deletes all other files
        files.start()
    if names:
        logger.info(
            "%s: %d of %d videos were evaluated before; only the others are now",
            *(dataset_name, len(names), len(records)),
        )
    left = [record for record in records if record["video_id"] not in names]
    evaluator = build_video_evaluator(cfg, records, files, known)
    if not left:
        return evaluator.evaluate()
    return inference_on_dataset(model, protect_workers(build_video_loader(cfg, left)), evaluator)


def with_one_view(cfg: CfgNode) -> CfgNode:
    """The config of an evaluation before the last iteration of a training."""
    if not cfg.TEST.VIDEO.ONE_VIEW_IN_TRAINING:
        return cfg
    cfg = cfg.clone()
    cfg.defrost()
    cfg.TEST.VIDEO.ONE_VIEW = True
    cfg.freeze()
    return cfg


def _settings(cfg: CfgNode) -> str:
    """What of a config the scores of a video depend on, besides the weights."""
    test = cfg.TEST.VIDEO
    options = [test.ENSEMBLE, test.ONE_VIEW, test.FULLY_CONV, *test_views(cfg)]
    return f"{options}\n{cfg.INPUT.FORMAT}\n{cfg.INPUT.VIDEO}\n{cfg.MODEL}"
