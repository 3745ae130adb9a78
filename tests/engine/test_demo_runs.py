"""A run of the relay demo, from a config to its figures and pictures."""

import json

import numpy as np
import pytest
from coco_files import restore_catalogues
from PIL import Image
from video_processes import make_config, register

from nl_detectron.relay_demo import ATTENTION, PREDICTIONS, train_relay_demo

pytestmark = pytest.mark.slow


def is_drawn(file) -> bool:
    return np.asarray(Image.open(file).convert("RGB")).std() > 10


def test_a_video_model_ends_with_its_accuracy_and_two_pictures(
    tmp_path, monkeypatch, restore_loggers
):
    pytest.importorskip("av", reason="needs PyAV: make setup-video")
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))
    with restore_catalogues(), restore_loggers():
        register()
        found = train_relay_demo(make_config(tmp_path / "run", "SOLVER.MAX_ITER", 1))
    assert found.keys() == {"video", "minutes", "versions"}
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert found["video"] == round(summary["results"]["video/top1"], 1)
    assert is_drawn(tmp_path / "run" / PREDICTIONS) and is_drawn(tmp_path / "run" / ATTENTION)


def test_a_detector_without_blocks_has_no_picture_of_attention(
    tiny_config, tmp_path, restore_loggers
):
    with restore_loggers():
        words = ("SOLVER.MAX_ITER", 1, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
        found = train_relay_demo(tiny_config(tmp_path / "run", *words, config="relay_mask_rcnn"))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert found["box"] == round(summary["results"]["bbox/AP"], 1) and "video" not in found
    assert is_drawn(tmp_path / "run" / PREDICTIONS)
    assert not (tmp_path / "run" / ATTENTION).exists()
