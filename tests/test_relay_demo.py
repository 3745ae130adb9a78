"""The relay demo's table, what it prints last, and its figures and picture in the README."""

import json
import re
from pathlib import Path

import pytest
from helpers import ROOT, load_tool
from PIL import Image

from nl_detectron import relay_demo
from nl_detectron.relay_demo import ATTENTION, format_table

CONFIGS = ROOT / "configs/Demo"


def test_the_table_sets_a_run_beside_the_recorded_ones():
    found = {"relay_nl": [(80.0, 90.0), (84.0, 92.0)], "relay": [(30.0, 31.0)]}
    records = [
        {"name": name, "threads": 1, "box": box, "mask": mask}
        for name, aps in found.items()
        for box, mask in aps
    ]
    records.append({"name": "relay_nl", "threads": 2, "box": 1.0, "mask": 1.0})
    results = {"box": 82.0, "mask": 91.5, "minutes": 5}
    lines = format_table("relay_nl", 3, results, records).splitlines()
    assert lines[0].split() == ["held-out", "images", "box", "AP", "mask", "AP"]
    assert "seed 3, this run" in lines[2] and lines[2].endswith("82.0                 91.5")
    assert "82.0 (80.0 to 84.0)" in lines[3] and "91.0 (90.0 to 92.0)" in lines[3]
    assert lines[4].startswith("relay, 1 recorded") and "30.0 (30.0 to 30.0)" in lines[4]


def test_the_readmes_figures_are_of_the_recorded_runs():
    records = json.loads((ROOT / "docs/relay_demo.json").read_text())
    readme = (ROOT / "README.md").read_text()
    for model, tasks in (("mask", ("box", "mask")), ("keypoint", ("keypoint",))):
        for name in (f"relay_{model}_rcnn_nl", f"relay_{model}_rcnn"):
            runs = [r for r in records if r["name"] == name and r["threads"] == 1]
            for task in tasks:
                aps = [run[task] for run in runs]
                mean = sum(aps) / len(aps)
                assert f"{mean:.1f} ({min(aps):.1f} to {max(aps):.1f})" in readme


@pytest.mark.parametrize(
    ("name", "words", "period"),
    [
        ("relay_mask_rcnn_nl", [], 100),
        ("relay_mask_rcnn", [], 100),
        ("relay_mask_rcnn_nl", ["TEST.EVAL_PERIOD", "0"], 0),
    ],
)
def test_it_evaluates_a_few_times_and_ends_with_its_pictures(
    name, words, period, tmp_path, monkeypatch, capsys
):
    trained = []

    def train(cfg):
        trained.append(cfg)
        folder = Path(cfg.OUTPUT_DIR)
        folder.mkdir(parents=True)
        if name.endswith("_nl"):
            (folder / ATTENTION).touch()
        return {"box": 80.0, "mask": 81.0}

    monkeypatch.setattr(relay_demo, "train_relay_demo", train)
    words = [*words, "MODEL.DEVICE", "cpu"]
    config = str(CONFIGS / f"{name}.yaml")
    load_tool("relay_demo").main(["--config-file", config, "--output", str(tmp_path), *words])
    folder = tmp_path / name / "seed1"
    last = capsys.readouterr().out.splitlines()[-3:]
    if name.endswith("_nl"):
        assert last[-1].endswith(f"an arrow to its patch: {folder / ATTENTION}")
        del last[-1]
    assert last[-1].endswith(f"beside predictions: {folder / 'predictions.png'}")
    assert last[-2].endswith(f"python tools/plot_curves.py {folder}")
    assert trained[0].TEST.EVAL_PERIOD == period and trained[0].SEED == 1


@pytest.mark.parametrize(
    ("words", "axes", "form"),
    [
        ([], "spacetime", "embedded_gaussian"),
        (["MODEL.NONLOCAL.AXES", "time"], "time", "embedded_gaussian"),
        (["--opts", "MODEL.NONLOCAL.PAIRWISE", "dot_product"], "spacetime", "dot_product"),
    ],
)
def test_the_demo_of_videos_takes_overrides_and_seeds(
    words, axes, form, tmp_path, monkeypatch, capsys
):
    record = tmp_path / "relay_video.json"
    runs = [
        {"name": "relay_video_c2d_nl", "seed": 101, "threads": 1, "video": 97.0},
        {"name": "relay_video_c2d_nl", "seed": 102, "threads": 1, "error": "no such thing"},
        {"name": "relay_video_c2d", "seed": 101, "threads": 1, "video": 51.0},
    ]
    record.write_text(json.dumps(runs))
    trained = []
    monkeypatch.setattr(
        relay_demo, "train_relay_demo", lambda cfg: trained.append(cfg) or {"video": 98.5}
    )
    tool = load_tool("relay_demo")
    monkeypatch.setattr(tool, "RECORDS", (record, tmp_path / "missing.json"))
    config = str(CONFIGS / "relay_video_c2d_nl.yaml")
    tool.main(["--config-file", config, "--seeds", "4", "5", "--output", str(tmp_path), *words])
    assert [(cfg.SEED, Path(cfg.OUTPUT_DIR).name) for cfg in trained] == [
        (4, "seed4"),
        (5, "seed5"),
    ]
    assert {cfg.MODEL.NONLOCAL.AXES for cfg in trained} == {axes}
    assert {cfg.MODEL.NONLOCAL.PAIRWISE for cfg in trained} == {form}
    printed = capsys.readouterr().out
    assert "seed 5, this run" in printed and "98.5" in printed
    assert "c2d_nl, 1 recorded runs 97.0 (97.0 to 97.0)" in re.sub(" +", " ", printed)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["SEED", "7"], "SEED: give --seeds instead"),
        (["--opts", "OUTPUT_DIR", "runs"], "OUTPUT_DIR: give --output instead"),
        (["SOLVER.MAX_ITER", "5", "SEED", "7"], "SEED: give --seeds instead"),
    ],
)
def test_overrides_that_options_set_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        load_tool("relay_demo").parse_arguments(["--config-file", "a.yaml", *words])
    assert message in capsys.readouterr().err


def test_the_readme_opens_with_a_small_picture_on_a_solid_ground():
    readme = (ROOT / "README.md").read_text()
    path = ROOT / re.search(r"!\[[^\]]+\]\(([^)]+)\)", readme.partition("\n## ")[0])[1]
    assert path.stat().st_size < 300_000
    picture = Image.open(path)
    assert picture.width >= 1600  # twice what a page shows
    assert "transparency" not in picture.info and picture.mode in ("RGB", "P", "L")
    corners = [(0, 0), (picture.width - 1, 0), (0, picture.height - 1)]
    assert all(min(picture.convert("RGB").getpixel(corner)) > 250 for corner in corners)
