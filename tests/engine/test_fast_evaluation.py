"""COCO's metrics by faster-coco-eval: pycocotools' numbers, in Detectron2's evaluator too."""

import contextlib
import importlib.util
import io
import json
import logging

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, coco_evaluation
from detectron2.structures import Boxes, Instances
from fast_part import combinations, first_cases
from pycocotools.cocoeval import COCOeval

from benchmarks.bench_evaluation import compare, load, make_synthetic_data, run
from nl_detectron.engine.fast_evaluation import fast_evaluation, faster_coco_eval

SIGMAS = [0.1, 0.05, 0.03, 0.2, 0.08]
PLAIN = {"images": 30, "classes": 4, "detections": 60}
CROWDED = {"images": 6, "classes": 2, "detections": 330}  # more than COCO's 100 of a class
FEW = {"images": 3, "classes": 1, "detections": 3}


@pytest.fixture(autouse=True)
def detectron2_without_operators(monkeypatch):
    monkeypatch.setattr(coco_evaluation, "COCOeval_opt", COCOeval)


@combinations(task=["bbox", "segm"], sizes=[PLAIN, CROWDED, FEW], seed=range(3))
def test_boxes_and_masks_have_the_numbers_of_pycocotools(task, sizes, seed):
    assert compare(*make_synthetic_data(**sizes, seed=seed), task)["difference"] <= 1e-10


@first_cases(1, "seed", range(3))
@pytest.mark.parametrize("sigmas", [None, SIGMAS])
def test_keypoints_have_the_numbers_of_pycocotools(sigmas, seed):
    made = make_synthetic_data(**PLAIN, keypoints=len(sigmas or 17 * [0]), seed=seed)
    slow, fast = (
        results(make, *made, "keypoints", sigmas) for make in (COCOeval, faster_coco_eval)
    )
    assert slow[0].shape == (10,) and slow[0][0] > 0.01
    for a, b in zip(slow, fast, strict=True):
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-10)


def results(make, truth, found, task, sigmas=None):
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = load(make, truth, found, task)
        if sigmas:
            evaluation.params.kpt_oks_sigmas = np.array(sigmas)
        return run(evaluation)


def test_what_is_compared_has_everything_that_could_differ():
    truth, found = make_synthetic_data(**PLAIN)
    objects, images = truth["annotations"], {i["id"] for i in truth["images"]}
    areas = np.array([o["area"] for o in objects])
    assert all(((low < areas) & (areas < high)).sum() > 5 for low, high in SIZES)
    assert {o["iscrowd"] for o in objects} == {o["ignore"] for o in objects} == {0, 1}
    for of in (objects, found):
        assert {o["image_id"] for o in of} < images
    assert {o["category_id"] for o in objects} < {d["category_id"] for d in found}
    assert len({d["score"] for d in found}) < len(found) / 5
    stats = results(faster_coco_eval, truth, found, "segm")[0]
    assert stats.shape == (12,) and (stats > 0).all()


SIZES = ((0, 32**2), (32**2, 96**2), (96**2, 1e10))  # COCO's small, medium, large


@pytest.mark.parametrize("rename", [lambda i: f"image {i}", lambda i: 2**60 + i])
def test_images_are_not_confused_whatever_their_ids(rename):
    truth, found = make_synthetic_data(**FEW)
    expected = results(faster_coco_eval, truth, found, "bbox")[0]
    for image in truth["images"]:
        image["id"] = rename(image["id"])
    for one in (*truth["annotations"], *found):
        one["image_id"] = rename(one["image_id"])
    np.testing.assert_array_equal(results(faster_coco_eval, truth, found, "bbox")[0], expected)


# --- through Detectron2 -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tasks", "options"),
    [
        (("bbox",), {}),
        (("bbox",), {"max_dets_per_image": 20}),
        (("bbox", "keypoints"), {"kpt_oks_sigmas": SIGMAS}),
    ],
)
def test_detectron2s_evaluator_has_the_same_results(tasks, options, tmp_path):
    truth, found = make_synthetic_data(**PLAIN, keypoints=5)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    name = str(tmp_path)
    classes = [c["name"] for c in truth["categories"]]
    MetadataCatalog.get(name).set(json_file=str(tmp_path / "truth.json"), thing_classes=classes)
    MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id = {
        c["id"]: i for i, c in enumerate(truth["categories"])
    }
    slow, fast = (
        evaluated(COCOEvaluator(name, tasks, False, use_fast_impl=fast, **options), truth, found)
        for fast in (False, fast_evaluation())
    )
    MetadataCatalog.remove(name)
    assert fast_evaluation() and coco_evaluation.COCOeval_opt is faster_coco_eval
    assert slow.keys() == fast.keys() == set(tasks)
    for task in tasks:
        assert f"AP-{classes[0]}" in slow[task]  # of each class
        assert np.isnan(slow[task][f"AP-{classes[-1]}"])  # it has no object
        assert fast[task] == pytest.approx(slow[task], rel=0, abs=1e-8, nan_ok=True)  # percent


def evaluated(evaluator, truth, found):
    evaluator.reset()
    for image in truth["images"]:
        own = [d for d in found if d["image_id"] == image["id"]]
        boxes = torch.tensor([d["bbox"] for d in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        instances = Instances((image["height"], image["width"]))
        instances.pred_boxes = Boxes(boxes)
        instances.scores = torch.tensor([d["score"] for d in own])
        instances.pred_classes = torch.tensor([d["category_id"] // 3 for d in own])
        instances.pred_keypoints = torch.tensor([d["keypoints"] for d in own]).view(-1, 5, 3)
        evaluator.process([{"image_id": image["id"]}], [{"instances": instances}])
    return evaluator.evaluate()


def test_detectron2s_own_fast_evaluation_is_kept(monkeypatch):
    own = type("COCOeval_opt", (COCOeval,), {})
    monkeypatch.setattr(coco_evaluation, "COCOeval_opt", own)
    assert fast_evaluation()
    assert coco_evaluation.COCOeval_opt is own


def test_pycocotools_evaluates_where_there_is_nothing_faster(monkeypatch, caplog):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO, "nl_detectron"):
        assert not fast_evaluation()
    assert coco_evaluation.COCOeval_opt is COCOeval
    assert [record.message for record in caplog.records] == [
        "faster-coco-eval is not installed: evaluating by pycocotools, which is slower"
    ]
