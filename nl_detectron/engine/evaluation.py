"""What a model predicts, what a data set has the truth of, and so how a run is judged.

A task has the name that Detectron2's evaluators give its results.
"""

import os
from importlib.util import find_spec
from typing import IO, cast

import numpy as np
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluators,
    SemSegEvaluator,
)
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..errors import UsageError
from .fast_evaluation import fast_evaluation

INSTANCES = ("bbox", "segm", "keypoints")
# What a data set of an evaluator_type of Detectron2 tells; those of other types tell of instances.
TRUTH = {"sem_seg": ("sem_seg",), "coco_panoptic_seg": ("sem_seg", "bbox", "segm", "panoptic_seg")}
METRIC = {"sem_seg": "mIoU", "panoptic_seg": "PQ"}  # of the others AP
PANOPTICAPI = "git+https://github.com/cocodataset/panopticapi.git"


def predicted(cfg: CfgNode) -> tuple[str, ...]:
    """Tasks of a model, the one that judges it last."""
    kind = cfg.MODEL.META_ARCHITECTURE
    with_heads = kind not in ("RetinaNet", "SemanticSegmentor")
    on = {
        "sem_seg": kind in ("PanopticFPN", "SemanticSegmentor"),
        "bbox": kind != "SemanticSegmentor",
        "segm": with_heads and cfg.MODEL.MASK_ON,
        "keypoints": with_heads and cfg.MODEL.KEYPOINT_ON,
        "panoptic_seg": kind == "PanopticFPN",
    }
    return tuple(task for task in on if on[task])


def truth(dataset_name: str) -> tuple[str, ...]:
    """Tasks that a registered data set can train and judge."""
    meta = MetadataCatalog.get(dataset_name)
    kind = meta.get("evaluator_type", "")
    if kind == "coco_panoptic_seg" and not meta.get("sem_seg_root"):
        return ()  # Panoptic-DeepLab's form of COCO: things and stuff share their numbers there
    return TRUTH.get(kind, INSTANCES)


def tasks(cfg: CfgNode, dataset_name: str) -> tuple[str, ...]:
    """What a data set can judge of a model, the hardest last.

    Raises:
        UsageError: nothing.
    """
    found = tuple(task for task in predicted(cfg) if task in truth(dataset_name))
    if not found:
        raise _unfit(cfg, dataset_name, "some")
    return found


def best_metric(cfg: CfgNode) -> str:
    """What decides the best checkpoint on the first test set: PQ, else AP of keypoints, else of
    masks, else of boxes, else mIoU."""
    name = cfg.DATASETS.TEST[0]
    prefix = f"{name}/" if len(cfg.DATASETS.TEST) > 1 else ""
    task = tasks(cfg, name)[-1]
    return f"{prefix}{task}/{METRIC.get(task, 'AP')}"


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
    """Detectron2's evaluators of all :func:`tasks`."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    found = tasks(cfg, dataset_name)
    evaluators = []
    if "sem_seg" in found:
        evaluators.append(
            SemSegEvaluator(dataset_name, output_dir=folder, sem_seg_loading_fn=_read_labels)
        )
    # from the predictions, a model that finds nothing would have no tasks
    if instances := tuple(task for task in found if task in INSTANCES):
        evaluators.append(
            COCOEvaluator(
                dataset_name,
                tasks=instances,
                output_dir=folder,
                use_fast_impl=fast_evaluation(),
                kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS,
            )
        )
    if "panoptic_seg" in found:
        evaluators.append(COCOPanopticEvaluator(dataset_name, folder))
    return DatasetEvaluators(evaluators)


def check_training_set(cfg: CfgNode, dataset_name: str) -> None:
    """Raises UsageError for a data set that lacks the truth of something the model learns."""
    learnt = set(predicted(cfg)) - {"panoptic_seg"}  # put together from the others
    if not learnt <= set(truth(dataset_name)):
        raise _unfit(cfg, dataset_name, "all")


def check_test_set(cfg: CfgNode, dataset_name: str) -> None:
    """Raises UsageError for a data set that can judge nothing of the model, or not here."""
    if "panoptic_seg" in tasks(cfg, dataset_name) and find_spec("panopticapi") is None:
        raise UsageError(
            f"data set {dataset_name!r} is evaluated by panopticapi, which is not installed: pip "
            f"install {PANOPTICAPI}, or name a test set of instances alone, such as coco_2017_val"
        )


def _unfit(cfg: CfgNode, dataset_name: str, how_many: str) -> UsageError:
    return UsageError(
        f"data set {dataset_name!r} has the truth of {', '.join(truth(dataset_name)) or 'nothing'} "
        f"for this model ({cfg.MODEL.META_ARCHITECTURE}), which predicts "
        f"{', '.join(predicted(cfg))}: name one that has {how_many} of these (for PanopticFPN "
        "COCO's are coco_2017_train_panoptic_separated and coco_2017_val_panoptic_separated)"
    )


def _read_labels(file: str, dtype: type) -> np.ndarray:
    """(H,W) of an image of class numbers; Detectron2's own reader fails with numpy 2."""
    with cast(IO[bytes], PathManager.open(file, "rb")) as opened:
        return np.array(Image.open(opened), dtype=dtype)
