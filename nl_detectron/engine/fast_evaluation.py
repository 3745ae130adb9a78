"""COCO's metrics at speed: faster-coco-eval behind Detectron2's own switch, ``use_fast_impl``."""

import importlib.util
import logging
from typing import Any, Literal, cast

from detectron2.evaluation import coco_evaluation
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

logger = logging.getLogger(__name__)


def fast_evaluation() -> bool:
    """Whether Detectron2 evaluates fast: by its own compiled operators, or else, from this call on,
    by faster-coco-eval, whose numbers are pycocotools'.

    It is what ``COCOEvaluator`` wants to know as ``use_fast_impl``.
    """
    if coco_evaluation.COCOeval_opt is not COCOeval:
        return True
    if importlib.util.find_spec("faster_coco_eval") is None:
        logger.info("faster-coco-eval is not installed: pycocotools evaluates, which takes longer")
        return False
    # Detectron2 has no other hook: this global of its module is what a fast evaluation calls,
    # pycocotools' class where detectron2._C is absent.
    coco_evaluation.COCOeval_opt = faster_coco_eval
    return True


def faster_coco_eval(truth: COCO, found: COCO, task: Literal["bbox", "segm", "keypoints"]):
    """faster-coco-eval in the place of ``COCOeval(truth, found, task)``.

    It has the same ``params``, ``evaluate``, ``accumulate``, ``summarize``, ``stats`` and ``eval``,
    but no ``evalImgs``, as Detectron2's own fast one. Ids that are no whole numbers it does not
    know: pycocotools does those.

    Args:
        truth: pycocotools'.
        found: its ``loadRes`` of detections.
        task: bbox, segm or keypoints.
    """
    from faster_coco_eval import COCOeval_faster

    ids = [*truth.getImgIds(), *truth.getCatIds()]
    if not all(isinstance(i, int) and abs(i) <= 2**53 for i in ids):  # it takes them for doubles
        return COCOeval(truth, found, task)
    evaluation = COCOeval_faster(iouType=task, print_function=print)
    # Its constructor would want a COCO of its own for keypoints, and would drop from the precisions
    # the categories without an object, which Detectron2 counts.
    evaluation.cocoGt, evaluation.cocoDt = cast(Any, truth), cast(Any, found)
    evaluation.params.imgIds = sorted(truth.getImgIds())
    evaluation.params.catIds = sorted(truth.getCatIds())
    return evaluation
