"""COCO's metrics of synthetic detections: faster-coco-eval against pycocotools."""

import contextlib
import copy
import io
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import numpy as np
from pycocotools import mask as masks
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nl_detectron.engine.fast_evaluation import faster_coco_eval

SIDE = 640  # height and width of an image in pixels
TOLERANCE = 1e-10  # largest difference of a precision, recall or score
WAYS = {"pycocotools": COCOeval, "faster-coco-eval": faster_coco_eval}


def records(quick: bool, images: int = 5000) -> Iterator[dict[str, Any]]:
    case = {"images": 50 if quick else images, "classes": 80, "detections": 100}
    truth, detections = make_synthetic_data(**case)
    for task in ("bbox", "segm"):
        yield {"case": {"task": task, **case}, **compare(truth, detections, task)}


def compare(truth: dict, detections: list[dict], task: str) -> dict[str, Any]:
    """Time evaluate, accumulate and summarize in seconds, once each way, each on its own copies.

    Raises:
        ValueError: the results differ.
    """
    seconds, results = {}, {}
    for way, make in WAYS.items():
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = load(make, truth, detections, task)
            start = time.perf_counter()
            results[way] = run(evaluation)
            seconds[way] = time.perf_counter() - start
        del evaluation
    slow, fast = results.values()
    difference = max(float(np.abs(a - b).max()) for a, b in zip(slow, fast, strict=True))
    if not difference <= TOLERANCE:
        raise ValueError(f"{task}: the results differ by {difference}")
    return {
        "seconds": seconds,
        "ratio": seconds["pycocotools"] / seconds["faster-coco-eval"],
        "difference": difference,
        "AP": float(slow[0][0]),
        "versions": {way: version(way) for way in WAYS},
    }


def load(make, truth: dict, detections: list[dict], task: str):
    """Load data as Detectron2 does, without boxes for masks: COCO would take the boxes' areas."""
    coco = COCO()
    coco.dataset = copy.deepcopy(truth)
    coco.createIndex()
    results = [{k: v for k, v in d.items() if task != "segm" or k != "bbox"} for d in detections]
    return make(coco, coco.loadRes(results), task)


def run(evaluation) -> tuple[np.ndarray, ...]:
    """Run an evaluation; return its stats, precisions, recalls and scores."""
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return (evaluation.stats, *(evaluation.eval[k] for k in ("precision", "recall", "scores")))


def make_synthetic_data(
    images: int, classes: int, detections: int, keypoints: int = 0, seed: int = 0
) -> tuple[dict, list[dict]]:
    """Make a data set in COCO's format, and detections in COCO's results format.

    Objects have all sizes that COCO distinguishes. There are crowds, objects marked as ignored,
    equal scores, equal boxes and overlaps of exactly a half. The last class has no object, and some
    images have no object or no detection. Ids are not consecutive.

    Args:
        images: number of images.
        classes: number of classes.
        detections: number of detections in an image that has any.
        keypoints: number of keypoints of an object; objects with keypoints have no masks.
        seed: seed of the random numbers.
    """
    rng = np.random.default_rng(seed)
    ids = [3 * c + 1 for c in range(classes)]
    truth = {
        "images": [{"id": 7 * i + 5, "height": SIDE, "width": SIDE} for i in range(images)],
        "categories": [{"id": c, "name": str(c)} for c in ids],
        "annotations": [],
    }
    results = []
    for number, image in enumerate(truth["images"]):
        objects = [] if number % 9 == 4 else _boxes(rng, rng.integers(1, 14))
        kinds = rng.choice(ids[:-1] or ids, len(objects))
        for box, kind in zip(objects, kinds, strict=True):
            own = {"image_id": image["id"], "category_id": int(kind)}
            truth["annotations"].append(
                {**own, "id": len(truth["annotations"]) + 1, **_object(rng, box, keypoints)}
            )
        if number % 11 != 5:
            near = rng.integers(0, max(len(objects), 1), detections)
            for i, at in enumerate(near):
                hit = len(objects) and i % 3 == 0
                box = _move(rng, objects[at]) if hit else _boxes(rng, 1)[0]
                kind = kinds[at] if hit and i % 4 else rng.choice(ids)
                results.append(
                    {
                        "image_id": image["id"],
                        "category_id": int(kind),
                        "score": round(float(rng.random()), 2),
                        **_shape(rng, box, keypoints),
                    }
                )
    return truth, results


def _boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Boxes (count, 4) as x, y, width, height in whole pixels; half of them are below 60 wide."""
    sides = np.exp(rng.uniform(np.log(8), np.log(SIDE * 0.7), (count, 2))).round()
    corners = (rng.random((count, 2)) * (SIDE - sides)).round()
    return np.concatenate([corners, sides], axis=1)


def _move(rng: np.random.Generator, box: np.ndarray) -> np.ndarray:
    """Return the same box, or one of half its width, or one nearby."""
    x, y, w, h = box
    how = rng.integers(4)
    if how == 0:
        return box
    if how == 1:
        return np.array([x, y, w / 2, h])
    return np.array([x, y, w, h]) + rng.normal(0, 0.06, 4) * [w, h, 0.5 * w, 0.5 * h]


def _object(rng: np.random.Generator, box: np.ndarray, keypoints: int) -> dict[str, Any]:
    crowd = int(rng.random() < 0.06)
    shape = _shape(rng, box, keypoints)
    if keypoints:
        seen = rng.integers(0, 3, keypoints) if rng.random() < 0.85 else np.zeros(keypoints, int)
        shape["keypoints"][2::3] = seen.tolist()
        shape["num_keypoints"] = int((seen > 0).sum())
    else:
        shape["segmentation"] = _crowd_mask(box) if crowd else [_outline(box)]
    return {
        **shape,
        "area": float(box[2] * box[3]) * (1.0 if keypoints else 0.83),
        "iscrowd": crowd,
        "ignore": int(rng.random() < 0.05),
    }


def _shape(rng: np.random.Generator, box: np.ndarray, keypoints: int) -> dict[str, Any]:
    shape: dict[str, Any] = {"bbox": box.tolist()}
    if keypoints:
        points = box[:2] + rng.normal(0.5, 0.03, (keypoints, 2)) * box[2:]
        shape["keypoints"] = [v for x, y in points.tolist() for v in (x, y, 1.0)]
    else:
        [rle] = masks.frPyObjects([_outline(box)], SIDE, SIDE)
        shape["segmentation"] = {**rle, "counts": rle["counts"].decode()}
    return shape


def _outline(box: np.ndarray) -> list[float]:
    """Polygon of an octagon that fills most of a box."""
    x, y, w, h = box.tolist()
    near, far = 0.29, 0.71
    corners = [(near, 0), (far, 0), (1, near), (1, far), (far, 1), (near, 1), (0, far), (0, near)]
    return [v for a, b in corners for v in (x + a * w, y + b * h)]


def _crowd_mask(box: np.ndarray) -> dict[str, Any]:
    """A box as an uncompressed RLE: runs of pixels outside and inside in turn, by columns."""
    x, y, w, h = box.astype(int).tolist()
    columns = [h, SIDE - h] * (w - 1)
    counts = [x * SIDE + y, *columns, h, (SIDE - x - w) * SIDE + SIDE - y - h]
    return {"size": [SIDE, SIDE], "counts": counts}
