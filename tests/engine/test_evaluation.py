"""The tasks that a model is evaluated on: those that it predicts and the data set has."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_panoptic
from PIL import Image

from nl_detectron.engine import describe_run, load_config, preflight
from nl_detectron.engine.evaluation import (
    best_metric,
    build_evaluator,
    explain_nothing_found,
    predicted_tasks,
)
from nl_detectron.engine.pictures import Pictures
from nl_detectron.errors import UsageError

STUFF = 100  # a category of the panoptic set; those of things are 1 to 3
PANOPTIC = (
    *("MODEL.META_ARCHITECTURE", "PanopticFPN"),
    *("MODEL.SEM_SEG_HEAD.NUM_CLASSES", 2, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 32),
)
RETINANET = (
    *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.RETINANET.NUM_CLASSES", 3),
    *("MODEL.BACKBONE.NAME", "build_nonlocal_retinanet_resnet_fpn_backbone"),
    *("MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']"),
    *("MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']"),
)


def sets(train: str, test: str) -> tuple[str, ...]:
    return ("DATASETS.TRAIN", f"('{train}',)", "DATASETS.TEST", f"('{test}',)")


def results(folder) -> dict:
    return json.loads((folder / "summary.json").read_text())["results"]


@pytest.fixture(scope="module")
def things_and_stuff(tiny_relay, tmp_path_factory):
    """tiny_val with a box of each thing and one stuff around: as panoptic_val, and as stuff_val
    of the stuff alone."""
    folder = tmp_path_factory.mktemp("panoptic")
    records, annotations = [], []
    for record in DatasetCatalog.get("tiny_val"):
        (thing,) = record["annotations"]
        x, y, width, height = map(int, thing["bbox"])
        segments = np.full((record["height"], record["width"]), 2, np.uint8)
        segments[y : y + height, x : x + width] = 1
        file = f"{record['image_id']}.png"
        (folder / "semantic").mkdir(exist_ok=True)
        (folder / "panoptic").mkdir(exist_ok=True)
        Image.fromarray(segments - 1).save(folder / "semantic" / file)
        rgb = np.stack([segments, 0 * segments, 0 * segments], axis=2)
        Image.fromarray(rgb).save(folder / "panoptic" / file)
        records.append({**record, "sem_seg_file_name": str(folder / "semantic" / file)})
        categories = (thing["category_id"] + 1, STUFF)
        segments_info = [
            {"id": i, "category_id": c, "iscrowd": 0, "area": int((segments == i).sum())}
            for i, c in enumerate(categories, 1)
        ]
        annotations.append(
            {"image_id": record["image_id"], "file_name": file, "segments_info": segments_info}
        )
    categories = [{"id": i, "isthing": 1} for i in (1, 2, 3)] + [{"id": STUFF, "isthing": 0}]
    content = {"images": [], "annotations": annotations, "categories": categories}
    (folder / "panoptic.json").write_text(json.dumps(content))

    meta = MetadataCatalog.get("tiny_val")
    shared = {
        "image_root": meta.image_root,
        "sem_seg_root": str(folder / "semantic"),
        "stuff_classes": ["things", "stuff"],
        "stuff_dataset_id_to_contiguous_id": {0: 0, STUFF: 1},  # as COCO has it
        "ignore_label": 255,
    }
    DatasetCatalog.register("panoptic_val", lambda: [dict(r) for r in records])
    MetadataCatalog.get("panoptic_val").set(
        evaluator_type="coco_panoptic_seg",
        json_file=meta.json_file,
        panoptic_json=str(folder / "panoptic.json"),
        panoptic_root=str(folder / "panoptic"),
        thing_classes=meta.thing_classes,
        thing_dataset_id_to_contiguous_id={1: 0, 2: 1, 3: 2},
        **shared,
    )
    stuff = [{k: v for k, v in r.items() if k != "annotations"} for r in records]
    DatasetCatalog.register("stuff_val", lambda: [dict(r) for r in stuff])
    MetadataCatalog.get("stuff_val").set(evaluator_type="sem_seg", **shared)
    yield folder
    for name in ("panoptic_val", "stuff_val"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


NAN, SOME = float("nan"), {"AP": 1.0, "AP50": 2.0}


@pytest.mark.parametrize(
    ("results", "tasks"),
    [
        ({"bbox": {"AP": NAN, "AP50": NAN}, "segm": {"AP": NAN}}, "so bbox, segm are nan"),
        ({"bbox": SOME, "segm": {"AP": NAN, "AP50": 0.0}}, ""),
        ({"sem_seg": {"mIoU": NAN}}, ""),
        ({}, ""),
    ],
)
def test_a_model_that_finds_nothing_gets_a_sentence(results, tasks, tiny_config, tmp_path):
    said = explain_nothing_found(tiny_config(tmp_path), "birds_val", results)
    assert tasks in said and bool(said) == bool(tasks)
    assert not tasks or "no score is above MODEL.ROI_HEADS.SCORE_THRESH_TEST 0" in said


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "masks", "keypoints", "expected"),
    [
        ("GeneralizedRCNN", False, False, ["bbox"]),
        ("GeneralizedRCNN", True, True, ["bbox", "segm", "keypoints"]),
        ("RetinaNet", True, True, ["bbox"]),  # which has no such heads
        ("PanopticFPN", True, False, ["sem_seg", "bbox", "segm", "panoptic_seg"]),
        ("SemanticSegmentor", False, False, ["sem_seg"]),
    ],
)
def test_what_a_model_predicts(kind, masks, keypoints, expected):
    model = SimpleNamespace(META_ARCHITECTURE=kind, MASK_ON=masks, KEYPOINT_ON=keypoints)
    assert list(predicted_tasks(SimpleNamespace(MODEL=model))) == expected


@pytest.mark.parametrize(
    ("config", "test", "expected"),
    [
        ("COCO-Detection/retinanet_R_50_FPN_nl_1x", (), "bbox/AP"),
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_C4_nl_1x", (), "segm/AP"),
        ("COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x", (), "keypoints/AP"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_nl_1x", (), "panoptic_seg/PQ"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_nl_1x", ("coco_2017_val",), "segm/AP"),
        (
            "COCO-PanopticSegmentation/panoptic_fpn_R_50_nl_1x",
            ("coco_2017_val_panoptic_stuffonly", "coco_2017_val"),
            "coco_2017_val_panoptic_stuffonly/sem_seg/mIoU",
        ),
    ],
)
def test_the_hardest_task_of_the_first_set_decides_the_best(config, test, expected):
    words = ["DATASETS.TEST", str(test)] if test else []
    assert best_metric(load_config(f"configs/{config}.yaml", words)) == expected


# --- whole runs ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_semantic_model_is_judged_by_miou(
    things_and_stuff, tiny_config, arguments, train, tmp_path
):
    words = ("MODEL.META_ARCHITECTURE", "SemanticSegmentor", *PANOPTIC[2:])
    cfg = tiny_config(tmp_path, *words, *sets("stuff_val", "stuff_val"), "SOLVER.MAX_ITER", 1)
    preflight(cfg, arguments())
    train(cfg)
    assert {key.split("/")[0] for key in results(tmp_path)} == {"sem_seg"}
    assert 0 <= results(tmp_path)["sem_seg/mIoU"] <= 100
    assert (tmp_path / "model_best.pth").exists()


@pytest.mark.slow
@pytest.mark.parametrize("test", ["tiny_val", "panoptic_val"])
def test_a_panoptic_model_is_judged_by_all_that_the_set_tells(
    things_and_stuff, tiny_config, arguments, train, tmp_path, test
):
    if test == "panoptic_val":
        pytest.importorskip("panopticapi")
    unsure = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "SOLVER.MAX_ITER", 1)
    cfg = tiny_config(tmp_path, *PANOPTIC, *unsure, *sets("panoptic_val", test))
    preflight(cfg, arguments())
    train(cfg)
    tasks = {key.split("/")[0] for key in results(tmp_path)}
    extra = {"sem_seg", "panoptic_seg"} if test == "panoptic_val" else set()
    assert tasks == {"bbox", "segm"} | extra
    assert (tmp_path / "model_best.pth").exists()


@pytest.mark.slow
def test_a_retinanet_is_judged_by_boxes_and_pictured(tiny_config, train, tmp_path):
    unsure = ("MODEL.RETINANET.SCORE_THRESH_TEST", 0.0, "SOLVER.MAX_ITER", 1)
    anchors = ("MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [32], [64], [128], [256]]")
    cfg = tiny_config(tmp_path, *RETINANET, *unsure, *anchors, "MODEL.ROI_HEADS.NUM_CLASSES", 80)
    train(cfg)
    assert {key.split("/")[0] for key in results(tmp_path)} == {"bbox"}
    assert (tmp_path / "model_best.pth").exists()
    Pictures(describe_run(cfg))  # which names classes, and ROI_HEADS says nothing of them here


def test_perfect_labels_are_perfect(things_and_stuff, tiny_config, tmp_path):
    words = ("MODEL.META_ARCHITECTURE", "SemanticSegmentor")
    cfg = tiny_config(tmp_path, *words, *sets("stuff_val", "stuff_val"))
    evaluator = build_evaluator(cfg, "stuff_val")
    evaluator.reset()
    for record in DatasetCatalog.get("stuff_val"):
        labels = np.array(Image.open(record["sem_seg_file_name"]))
        scores = np.stack([labels == 0, labels == 1]).astype(np.float32)
        evaluator.process([record], [{"sem_seg": torch.from_numpy(scores)}])
    assert evaluator.evaluate()["sem_seg"]["mIoU"] == pytest.approx(100)


# --- refusals --------------------------------------------------------------------------------


@pytest.fixture
def refusal(things_and_stuff, tiny_config, tmp_path, arguments):
    """The error's text, for overrides of the tiny config."""

    def check(*overrides) -> str:
        with pytest.raises(UsageError) as caught:
            preflight(tiny_config(tmp_path / "run", *overrides), arguments())
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return check


@pytest.mark.parametrize(
    ("model", "train", "test", "message"),
    [
        (
            PANOPTIC,
            "tiny_train",
            "tiny_val",
            "'tiny_train' has ground truth for bbox, segm, keypoints",
        ),
        (
            PANOPTIC,
            "stuff_val",
            "tiny_val",
            "'stuff_val' has ground truth for sem_seg, but this model",
        ),
        ((), "stuff_val", "tiny_val", "'stuff_val' has ground truth for sem_seg, but this model"),
        ((), "tiny_train", "stuff_val", "'stuff_val' has ground truth for sem_seg, but this model"),
        (PANOPTIC, "panoptic_val", "deeplab_val", "'deeplab_val' has ground truth for nothing"),
    ],
)
def test_a_set_that_does_not_fit_the_model_is_refused(
    refusal, deeplab, model, train, test, message
):
    assert message in refusal(*model, *sets(train, test))


@pytest.fixture
def deeplab(things_and_stuff):
    """A panoptic set as Panoptic-DeepLab has it, without semantic masks of its own."""
    meta = MetadataCatalog.get("panoptic_val")
    files = (meta.image_root, meta.panoptic_root, meta.panoptic_json)
    register_coco_panoptic("deeplab_val", {}, *files)
    yield
    DatasetCatalog.remove("deeplab_val")
    MetadataCatalog.remove("deeplab_val")


def test_without_panopticapi_its_evaluation_is_refused_before_the_run(refusal, monkeypatch):
    monkeypatch.setitem(sys.modules, "panopticapi", None)  # as where it is not installed
    message = refusal(*PANOPTIC, *sets("panoptic_val", "panoptic_val"))
    assert "'panoptic_val' is evaluated by panopticapi, which is not installed" in message
    assert "pip install git+https" in message


def test_panoptic_files_that_are_not_there_are_reported(refusal, things_and_stuff, monkeypatch):
    meta = MetadataCatalog.get("panoptic_val")
    for key, kind in (("panoptic_json", "panoptic annotations"), ("sem_seg_root", "semantic")):
        with monkeypatch.context() as patch:
            patch.setitem(vars(meta), key, str(things_and_stuff / "nowhere"))
            message = refusal(*PANOPTIC, *sets("panoptic_val", "tiny_val"))
        assert f"its {kind}" in message and str(things_and_stuff / "nowhere") in message


def test_panoptic_segments_without_masks_are_refused(refusal):
    words = (*PANOPTIC, "MODEL.MASK_ON", False, *sets("panoptic_val", "tiny_val"))
    assert "MODEL.MASK_ON is False, but PanopticFPN" in refusal(*words)


def test_a_retinanet_on_another_fpn_is_reported(refusal):
    message = refusal(*RETINANET, "MODEL.BACKBONE.NAME", "build_nonlocal_resnet_fpn_backbone")
    assert "'p7'" in message and "build_nonlocal_resnet_fpn_backbone" in message
