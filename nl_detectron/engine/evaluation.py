"""Tasks that a model predicts and a data set has ground truth for, and their evaluators.

Tasks are named as in the results of Detectron2's evaluators: bbox, segm, keypoints, sem_seg and
panoptic_seg; and video, the classification of videos.
"""

import math
import os
from collections.abc import Mapping
from importlib.util import find_spec
from typing import IO, cast

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
)
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..config import detector_section, detector_section_name, is_video
from ..errors import UsageError
from .fast_evaluation import fast_evaluation
from .run import Config
from .video_evaluation import build_video_evaluator

INSTANCES = ("bbox", "segm", "keypoints")
# Tasks with ground truth, by the evaluator_type in Detectron2's metadata; other types: INSTANCES.
TRUTH = {
    "sem_seg": ("sem_seg",),
    "coco_panoptic_seg": ("sem_seg", "bbox", "segm", "panoptic_seg"),
    "video": ("video",),
}
METRIC = {"sem_seg": "mIoU", "panoptic_seg": "PQ"}  # other tasks: AP
PANOPTICAPI = "git+https://github.com/cocodataset/panopticapi.git"


def predicted_tasks(cfg: CfgNode) -> tuple[str, ...]:
    """Tasks that a model predicts. The last one decides the best checkpoint."""
    kind = cfg.MODEL.META_ARCHITECTURE
    if is_video(cfg):
        return ("video",)
    with_heads = kind not in ("RetinaNet", "SemanticSegmentor")
    on = {
        "sem_seg": kind in ("PanopticFPN", "SemanticSegmentor"),
        "bbox": kind != "SemanticSegmentor",
        "segm": with_heads and cfg.MODEL.MASK_ON,
        "keypoints": with_heads and cfg.MODEL.KEYPOINT_ON,
        "panoptic_seg": kind == "PanopticFPN",
    }
    return tuple(task for task in on if on[task])


def annotated_tasks(dataset_name: str) -> tuple[str, ...]:
    """Tasks that a registered data set has ground truth for."""
    meta = MetadataCatalog.get(dataset_name)
    kind = meta.get("evaluator_type", "")
    if kind == "coco_panoptic_seg" and not meta.get("sem_seg_root"):
        return ()  # COCO for Panoptic-DeepLab, where things and stuff share one list of classes
    return TRUTH.get(kind, INSTANCES)


def evaluated_tasks(cfg: CfgNode, dataset_name: str) -> tuple[str, ...]:
    """Tasks of a model that can be evaluated on a data set, in the order of the model's.

    Raises:
        UsageError: there are none.
    """
    annotated = annotated_tasks(dataset_name)
    tasks = tuple(task for task in predicted_tasks(cfg) if task in annotated)
    if not tasks:
        raise _unfit(cfg, dataset_name, "some")
    return tasks


def best_metric(cfg: CfgNode) -> str:
    """Name of the metric that decides the best checkpoint. It is that of the first test set: PQ,
    else AP of keypoints, else of masks, else of boxes, else mIoU. Of videos it is that of one view,
    which the evaluations in training and at its end have in common."""
    name = cfg.DATASETS.TEST[0]
    prefix = f"{name}/" if len(cfg.DATASETS.TEST) > 1 else ""
    task = evaluated_tasks(cfg, name)[-1]
    if task == "video":
        metric = "mAP" if cfg.MODEL.VIDEO.MULTI_LABEL else "top1"
        return f"{prefix}{task}/{metric}_1view"
    return f"{prefix}{task}/{METRIC.get(task, 'AP')}"


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """Build Detectron2's evaluators of all :func:`evaluated_tasks`, or that of videos."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    tasks = evaluated_tasks(cfg, dataset_name)
    if "video" in tasks:
        return build_video_evaluator(cfg, DatasetCatalog.get(dataset_name))
    evaluators = []
    if "sem_seg" in tasks:
        evaluators.append(
            SemSegEvaluator(dataset_name, output_dir=folder, sem_seg_loading_fn=_read_labels)
        )
    # COCOEvaluator would take the tasks from the predictions, and there may be none
    if instances := tuple(task for task in tasks if task in INSTANCES):
        evaluators.append(
            COCOEvaluator(
                dataset_name,
                tasks=instances,
                output_dir=folder,
                use_fast_impl=fast_evaluation(),
                kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
            )
        )
    if "panoptic_seg" in tasks:
        evaluators.append(COCOPanopticEvaluator(dataset_name, folder))
    return DatasetEvaluators(evaluators)


def check_training_set(cfg: CfgNode, dataset_name: str) -> None:
    """Raises UsageError for a data set without ground truth for all that the model learns."""
    learnt = set(predicted_tasks(cfg)) - {"panoptic_seg"}  # combined from the others
    if not learnt <= set(annotated_tasks(dataset_name)):
        raise _unfit(cfg, dataset_name, "all")


def check_test_set(cfg: CfgNode, dataset_name: str) -> None:
    """Raises UsageError for a data set without ground truth for the model's tasks, or a missing
    package that its evaluation needs."""
    if "panoptic_seg" in evaluated_tasks(cfg, dataset_name) and find_spec("panopticapi") is None:
        raise UsageError(
            f"data set {dataset_name!r} is evaluated by panopticapi, which is not installed: pip "
            f"install {PANOPTICAPI}, or name a test set of instances only, such as coco_2017_val"
        )


def explain_nothing_found(
    cfg: Config, dataset_name: str, results: Mapping[str, Mapping[str, float]]
) -> str:
    """A sentence about an evaluation in which the model found nothing; "" if it found something.

    Args:
        results: of Detectron2's evaluators, by task and metric. Without any detection, all metrics
            of a task are NaN.
    """
    tasks = [
        task
        for task, metrics in (results or {}).items()
        if task in INSTANCES and metrics and all(math.isnan(value) for value in metrics.values())
    ]
    if not tasks:
        return ""
    if isinstance(cfg, CfgNode):
        key = f"MODEL.{detector_section_name(cfg)}.SCORE_THRESH_TEST"
        threshold = f"{key} {detector_section(cfg).SCORE_THRESH_TEST:g}"
    else:
        threshold = "its test_score_thresh"
    return (
        f"The model found nothing in {dataset_name}, so {', '.join(tasks)} are nan: no score is "
        f"above {threshold}. After a few iterations this is usual: train longer, or set a lower "
        "threshold"
    )


def _unfit(cfg: CfgNode, dataset_name: str, how_many: str) -> UsageError:
    annotated = ", ".join(annotated_tasks(dataset_name)) or "nothing"
    if is_video(cfg) or "video" in annotated_tasks(dataset_name):
        has, needs = ("images", "videos") if is_video(cfg) else ("videos", "images")
        return UsageError(
            f"data set {dataset_name!r} has {has}, but this model "
            f"({cfg.MODEL.META_ARCHITECTURE}) takes {needs}: name a data set of {needs}, or use a "
            f"config of {has}"
        )
    return UsageError(
        f"data set {dataset_name!r} has ground truth for {annotated}, but this model "
        f"({cfg.MODEL.META_ARCHITECTURE}) predicts {', '.join(predicted_tasks(cfg))}: name one "
        f"that has {how_many} of these (for PanopticFPN on COCO, "
        "coco_2017_train_panoptic_separated and coco_2017_val_panoptic_separated)"
    )


def _read_labels(file: str, dtype: type) -> np.ndarray:
    """Read an image of class numbers as (H,W); Detectron2's own reader fails with numpy 2."""
    with cast(IO[bytes], PathManager.open(file, "rb")) as opened:
        return np.array(Image.open(opened), dtype=dtype)
