"""Twins on real photographs: equal but for the block, equal at first, results kept."""

import json
import sys
from dataclasses import replace

import pytest

from benchmarks.evidence import real
from nl_detectron.engine import build_on_meta
from nl_detectron.modeling import find_blocks

SMALL = ("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64")


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(real, "REAL", replace(real.REAL, iterations=2, every=2, cool=1))
    monkeypatch.setattr(real, "REAL_OPTS", (*real.REAL_OPTS, *SMALL))
    monkeypatch.setattr(real, "REAL_IMAGES", (2, 4))


def test_twins_differ_in_the_block_alone():
    ours, theirs = (real.config(name, 1, "R-50.pth") for name in reversed(real.TWINS))
    assert list(find_blocks(build_on_meta(ours))) == ["backbone.bottom_up.res4.nonlocal4"]
    ours, theirs = ours.clone(), theirs.clone()
    for cfg in (ours, theirs):
        cfg.defrost()
        cfg.OUTPUT_DIR, cfg.MODEL.BACKBONE.NAME = "", ""
        cfg.MODEL.NONLOCAL.BACKBONE.AFTER = []
    assert ours == theirs


@pytest.mark.slow
def test_twins_have_equal_losses_at_first_and_leave_their_results(
    shared, short, tmp_path, monkeypatch, capsys
):
    words = ["real", "--coco", str(shared / "coco_mini"), "--seeds", "1"]
    words += ["--weights", str(shared / "weights" / "R-50.pth"), "--results", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    real.main()
    results = [json.loads((tmp_path / f"{name}-seed1.json").read_text()) for name in real.TWINS]
    assert len(json.loads((real.OUTPUT / "real.json").read_text())["images"]) == 2
    assert results[0]["first"] == pytest.approx(results[1]["first"], abs=1e-3)
    for name, result in zip(real.TWINS, results, strict=True):
        assert (result["run"], result["iterations"]) == (name, 2)
        assert result["ap"].keys() == {"box", "mask"} and result["curve"]
    real.main()
    assert capsys.readouterr().out.count("is there") == 2
