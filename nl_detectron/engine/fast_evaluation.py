"""COCO's metrics by faster-coco-eval, as Detectron2's fast implementation (``use_fast_impl``)."""

import importlib.util
import logging
from typing import Any, Literal, cast

from detectron2.evaluation import coco_evaluation
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

logger = logging.getLogger(__name__)


def fast_evaluation() -> bool:
    """Let Detectron2 evaluate by faster-coco-eval if it lacks its own compiled operators.

    The results are those of pycocotools.

    Returns:
        ``use_fast_impl`` for Detectron2's ``COCOEvaluator``: False if neither is installed.
    """
    if coco_evaluation.COCOeval_opt is not COCOeval:
        return True
    if importlib.util.find_spec("faster_coco_eval") is None:
        logger.info("faster-coco-eval is not installed: evaluating by pycocotools, which is slower")
        return False
    # Detectron2 has no other hook. A fast evaluation calls this global of its module, which is
    # pycocotools' class where detectron2._C is missing.
    coco_evaluation.COCOeval_opt = faster_coco_eval
    return True


def faster_coco_eval(truth: COCO, detections: COCO, task: Literal["bbox", "segm", "keypoints"]):
    """Return faster-coco-eval's replacement of ``COCOeval(truth, detections, task)``.

    It has the same ``params``, ``evaluate``, ``accumulate``, ``summarize``, ``stats`` and ``eval``,
    but no ``evalImgs``, like Detectron2's own fast implementation. As faster-coco-eval takes only
    integer ids, data with other ids gets a ``COCOeval`` of pycocotools.

    Args:
        truth: the annotations, as a COCO object of pycocotools.
        detections: what ``truth.loadRes`` returns.
        task: bbox, segm or keypoints.
    """
    from faster_coco_eval import COCOeval_faster

    ids = [*truth.getImgIds(), *truth.getCatIds()]
    if not all(isinstance(i, int) and abs(i) <= 2**53 for i in ids):  # it stores ids as doubles
        return COCOeval(truth, detections, task)
    evaluation = COCOeval_faster(iouType=task, print_function=print)
    # These are not given to its constructor, which requires its own COCO class for keypoints, and
    # drops categories without an object, which Detectron2 counts, from the precisions.
    evaluation.cocoGt, evaluation.cocoDt = cast(Any, truth), cast(Any, detections)
    evaluation.params.imgIds = sorted(truth.getImgIds())
    evaluation.params.catIds = sorted(truth.getCatIds())
    return evaluation
