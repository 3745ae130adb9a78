"""On real COCO images and real ImageNet weights, skipped where they are not at hand."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import nonlocal_tensors

from nl_detectron.engine import Checkpointer, load_config
from nl_detectron.engine.checkpoint import fresh_outside_blocks
from nl_detectron.modeling import build_model

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "COCO-InstanceSegmentation" / "mask_rcnn_R_50_FPN_nl_1x.yaml"


def test_imagenet_weights_leave_fpn_rpn_heads_and_blocks_fresh(shared):
    cfg = load_config(str(CONFIG), ["MODEL.DEVICE", "cpu"])
    checkpointer = Checkpointer(build_model(cfg))
    checkpointer.load(str(shared / "weights" / "R-50.pth"))
    names = set(checkpointer.model.state_dict())
    blocks = nonlocal_tensors(checkpointer.model)
    others = {n for n in names if not n.startswith("backbone.bottom_up.")}
    parts = {".".join(name.split(".")[:2]) for name in others}
    assert {p for p in parts if p.startswith("backbone.")} == {
        f"backbone.fpn_{kind}{level}" for kind in ("lateral", "output") for level in (2, 3, 4, 5)
    }
    assert parts - {p for p in parts if p.startswith("backbone.")} == {
        "proposal_generator.rpn_head",
        *("roi_heads.box_head", "roi_heads.box_predictor", "roi_heads.mask_head"),
    }
    assert len(blocks) == 8
    assert set(checkpointer.fresh) == others | blocks
    assert set(fresh_outside_blocks(checkpointer)) == others


@pytest.mark.slow
def test_a_step_on_coco_has_finite_losses(shared, tmp_path):
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "coco").symlink_to(shared / "coco_mini")
    overrides = {
        "MODEL.WEIGHTS": shared / "weights" / "R-50.pth",
        "MODEL.DEVICE": "cpu",
        "INPUT.MIN_SIZE_TRAIN": "(128,)",
        "DATALOADER.NUM_WORKERS": 0,
        "DATASETS.TEST": "()",
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": 1,
        "SOLVER.STEPS": "()",
        "OUTPUT_DIR": tmp_path / "run",
    }
    # Detectron2 reads the variable when it is imported, hence the process
    done = subprocess.run(
        [sys.executable, "train_net.py", "--config-file", CONFIG]
        + [str(word) for pair in overrides.items() for word in pair],
        cwd=ROOT,
        env=os.environ | {"DETECTRON2_DATASETS": str(tmp_path / "datasets")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Loaded 96 images in COCO format" in done.stdout
    (step,) = (
        record
        for record in map(json.loads, (tmp_path / "run" / "metrics.json").read_text().splitlines())
        if "total_loss" in record
    )
    losses = {name: value for name, value in step.items() if name.startswith("loss_")}
    assert {"loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"} == set(losses)
    assert all(math.isfinite(value) for value in losses.values())
