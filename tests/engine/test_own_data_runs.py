"""Runs on data of the user's own, and evaluation by the numbers of its file."""

import copy
import json
import logging
import pickle

import pytest
import torch
from coco_files import DEMO, KEYPOINT, PLAIN
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances

from nl_detectron.engine import Trainer, preflight, start_run

pytestmark = pytest.mark.usefixtures("own_catalogues")


THIN = [
    *PLAIN,
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64, "SOLVER.MAX_ITER", 1),
    *("SOLVER.STEPS", "()", "MODEL.BACKBONE.FREEZE_AT", 0, "TEST.DETECTIONS_PER_IMAGE", 4),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
]


@pytest.mark.slow
def test_a_keypoint_model_is_trained_and_evaluated_on_own_data(
    load_args, birds, train_on, tmp_path
):
    opts = (*THIN, "OUTPUT_DIR", tmp_path / "run")
    cfg, args = load_args(DEMO, *birds(), *birds("birds_val"), "--batch-size", 2, opts=opts)
    preflight(cfg, args)
    train_on(cfg, args)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {"bbox/AP", "bbox/AP-owl", "keypoints/AP"} <= summary["results"].keys()
    log = (tmp_path / "run" / "log.txt").read_text()
    for note in args.notes:
        assert f"nl_detectron INFO: {note}" in log


@pytest.fixture
def train_on(monkeypatch):
    """Trains as each process of train_net.py does: with what pickling leaves of its arguments."""

    def run(cfg, args) -> Trainer:
        cfg, args = pickle.loads(pickle.dumps((cfg, args)))
        for name in [data.name for data in args.dataset]:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "nl_detectron")]
        before = [(log.level, log.propagate, log.handlers[:]) for log in loggers]
        try:
            start_run(cfg, args)
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=False)
            trainer.train()
        finally:
            for log, (level, log.propagate, log.handlers[:]) in zip(loggers, before, strict=True):
                log.setLevel(level)
        return trainer

    return run


def found_as_annotated(record: dict) -> Instances:
    """What a perfect model would find in an image, crowds apart."""
    annotations = [a for a in record["annotations"] if not a["iscrowd"]]
    found = Instances((record["height"], record["width"]))
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    found.pred_classes = torch.tensor([a["category_id"] for a in annotations])
    found.scores = torch.ones(len(annotations))
    points = torch.tensor([a["keypoints"] for a in annotations], dtype=torch.float)
    found.pred_keypoints = points.reshape(len(annotations), -1, 3)
    return found


def test_a_perfect_model_has_an_ap_of_100(load_args, birds, tmp_path):
    opts = (*PLAIN, "OUTPUT_DIR", tmp_path / "run")
    cfg, _ = load_args(KEYPOINT, *birds(), *birds("birds_val"), opts=opts)
    evaluator = Trainer.build_evaluator(cfg, "birds_val")
    evaluator.reset()
    for record in DatasetCatalog.get("birds_val"):
        evaluator.process([record], [{"instances": found_as_annotated(copy.deepcopy(record))}])
    results = evaluator.evaluate()
    aps = [results["keypoints"]["AP"], *(results["bbox"][f"AP{of}"] for of in ("", "-owl", "-jay"))]
    assert aps == pytest.approx([100] * 4)
