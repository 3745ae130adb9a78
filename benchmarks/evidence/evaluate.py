"""AP of a model on a relay data set: overall, for any class, and by distance."""

import itertools
import json
import math
import random
import statistics
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, build_detection_test_loader
from detectron2.evaluation import inference_on_dataset
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn
from torchvision.ops import box_convert, box_iou, nms

from nl_detectron.engine import Trainer

SHUFFLES = 20
TASKS = {"box": "bbox", "mask": "segm", "keypoint": "keypoints"}


def evaluate(cfg: CfgNode, model: nn.Module, dataset: str) -> dict[str, float]:
    """Evaluate a model; returns AP in percent by task, which is 0 without detections."""
    loader = build_detection_test_loader(cfg, dataset)  # first: it writes the images
    evaluator = Trainer.build_evaluator(cfg, dataset)
    results = inference_on_dataset(model, loader, evaluator)
    return {task: _percent(results[k]["AP"]) for task, k in TASKS.items() if k in results}


class Detections:
    """The detections that :func:`evaluate` stored for a relay data set, and further metrics."""

    def __init__(self, cfg: CfgNode, dataset: str):
        folder = Path(cfg.OUTPUT_DIR, "inference", dataset)
        self.sigmas = np.array(cfg.TEST.KEYPOINT_OKS_SIGMAS) if cfg.MODEL.KEYPOINT_ON else None
        self.truth = COCO(MetadataCatalog.get(dataset).json_file)
        self.all = json.loads((folder / "coco_instances_results.json").read_text())
        self.unique = drop_duplicates(self.all)

    def located(self, images: Sequence[int] | None = None) -> dict[str, float]:
        """AP by task if the class did not count (or, for keypoints, which end is the head).

        A model that knows nothing of three classes, and names all of them, has a third of it.
        """
        if self.sigmas is not None:
            return {"keypoint": self._keypoint_ap_either_way_up()}
        return self._ap(self.unique, images, classes=False)

    def right(self) -> float:
        """Share of the objects that are recognised.

        The detection with the highest score on the object must have its class, or its head and tail
        nearer to the right ends than to the exchanged ones.
        """
        by_image = defaultdict(list)
        for detection in sorted(self.all, key=lambda d: -d["score"]):
            by_image[detection["image_id"]].append(detection)
        objects = self.truth.anns.values()
        recognised = [self._recognises(by_image[a["image_id"]], a) for a in objects]
        return round(statistics.mean(recognised), 4)

    def _recognises(self, detections: list[dict], annotation: dict) -> bool:
        box = torch.tensor([annotation["bbox"]], dtype=torch.float)
        for detection in detections:
            other = torch.tensor([detection["bbox"]], dtype=torch.float)
            if box_iou(*(box_convert(b, "xywh", "xyxy") for b in (box, other))) < 0.5:
                continue
            if self.sigmas is None:
                return detection["category_id"] == annotation["category_id"]
            points, upright = (
                np.reshape(a["keypoints"], (-1, 3))[:, :2] for a in (detection, annotation)
            )
            errors = [np.square(way - points).sum() for way in (upright, upright[::-1])]
            return bool(errors[0] < errors[1])
        return False

    def _keypoint_ap_either_way_up(self) -> float:
        """Keypoint AP if head and tail of an object may be exchanged. They are taken as in the
        detection with the highest score. Each image has one object."""
        best = {}
        for detection in sorted(self.all, key=lambda d: d["score"]):
            best[detection["image_id"]] = np.reshape(detection["keypoints"], (-1, 3))[:, :2]
        annotations = []
        for annotation in self.truth.anns.values():
            upright = np.reshape(annotation["keypoints"], (-1, 3))
            ways = (upright, upright[::-1])
            detected = best.get(annotation["image_id"], upright[:, :2])
            nearest = min(ways, key=lambda way: np.square(way[:, :2] - detected).sum())
            annotations.append({**annotation, "keypoints": nearest.ravel().tolist()})
        if not self.all:
            return 0.0
        truth = _with_annotations(self.truth, annotations)
        evaluation = COCOeval(truth, truth.loadRes(self.all), "keypoints")
        evaluation.params.kpt_oks_sigmas = self.sigmas
        return _first_ap(evaluation)

    def by_distance(self, edges: Sequence[int]) -> list[dict]:
        """AP, AP for any class and AP by chance for each band of distances, on its images only.

        Args:
            edges: the bands' edges, pixels between the centres of object and signal.
        """
        bands = []
        for low, high in itertools.pairwise(edges):
            ids = [a["image_id"] for a in self.truth.anns.values() if low <= a["distance"] < high]
            bands.append({"from": low, "to": high, "images": len(ids)})
            if ids:
                bands[-1] |= {"ap": self._ap(self.all, ids), "located": self.located(ids)}
                bands[-1]["chance"] = self.by_chance(ids)
        return bands

    def by_chance(self, images: Sequence[int]) -> dict[str, float]:
        """AP by task after classes are shuffled among the images, as the mean of some shuffles.

        On few images it is well above a third of the AP for any class: AP takes the best precision
        at each recall, so good luck counts more than bad luck.
        """
        rng, aps = random.Random(0), []
        annotations = [a for a in self.truth.anns.values() if a["image_id"] in set(images)]
        classes = [a["category_id"] for a in annotations]
        for _ in range(SHUFFLES):
            rng.shuffle(classes)
            others = [{**a, "category_id": c} for a, c in zip(annotations, classes, strict=True)]
            shuffled = _with_annotations(self.truth, others)
            aps.append(self._ap(self.all, images, truth=shuffled))
        return {task: round(statistics.mean(ap[task] for ap in aps), 2) for task in aps[0]}

    def _ap(
        self,
        detections: list[dict],
        images: Sequence[int] | None,
        classes: bool = True,
        truth: COCO | None = None,
    ) -> dict[str, float]:
        if not detections:
            return {"box": 0.0, "mask": 0.0}
        truth = truth or self.truth
        results = truth.loadRes(detections)
        aps = {}
        for task in ("box", "mask"):
            evaluation = COCOeval(truth, results, TASKS[task])
            evaluation.params.useCats = int(classes)
            if images is not None:
                evaluation.params.imgIds = list(images)
            aps[task] = _first_ap(evaluation)
        return aps


def _with_annotations(truth: COCO, annotations: list[dict]) -> COCO:
    """Return the data set with other annotations."""
    other = COCO()
    other.dataset = {**truth.dataset, "annotations": annotations}
    other.createIndex()
    return other


def _first_ap(evaluation: COCOeval) -> float:
    """COCO's AP over all IoUs (or OKSs) in percent."""
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return _percent(100 * evaluation.stats[0])


def drop_duplicates(detections: list[dict]) -> list[dict]:
    """Non-maximum suppression across classes, of detections in COCO's format."""
    by_image = defaultdict(list)
    for detection in detections:
        by_image[detection["image_id"]].append(detection)
    kept = []
    for in_image in by_image.values():
        boxes = torch.tensor([d["bbox"] for d in in_image], dtype=torch.float)
        scores = torch.tensor([d["score"] for d in in_image])
        indices = nms(box_convert(boxes, "xywh", "xyxy"), scores, 0.5)
        kept += [in_image[i] for i in indices.tolist()]
    return kept


def _percent(ap: float) -> float:
    return 0.0 if math.isnan(ap) else round(max(float(ap), 0.0), 2)  # COCO's -1 means no object
