"""tools/reproduce.py: whole runs on a little relay data set."""

import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from markdown_cells import cells_of

from nl_detectron.errors import UsageError
from nl_detectron.relay import SPLITS, Relay, register_split
from nl_detectron.reproduce import training_run
from tools.reproduce import main

ROOT = Path(__file__).parents[2]
LITTLE = Relay(train=4, val=2, height=64, width=128, signal=9)
# train_net.py itself, in a process that also knows a little data set
WITH_LITTLE_RELAY = f"""
import runpy, sys
from nl_detectron.relay import Relay
from nl_detectron.relay import SPLITS, register_split
for split in SPLITS:
    register_split(f"little_{{split}}", {LITTLE}, split)
sys.path[0] = {str(ROOT)!r}
runpy.run_path({str(ROOT / "train_net.py")!r}, run_name="__main__")
"""
OVERRIDES = [
    *("--opts", "DATASETS.TRAIN", "('little_train',)", "DATASETS.TEST", "('little_val',)"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2"),
    # an untrained model is sure of nothing
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    *("SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.MAX_ITER", "4"),
]


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """Runs the relay table on little data: ``relay(output, *words)`` gives the exit code."""
    folder = tmp_path_factory.mktemp("reproduce")
    script = folder / "train_net.py"
    script.write_text(WITH_LITTLE_RELAY)

    def run(output, *words, overrides=()) -> int:
        words = ("relay", "--num-gpus", 0, "--seeds", 1, "--output", output, *words)
        return main([*map(str, words), *OVERRIDES, *overrides])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NL_DETECTRON_CACHE", str(folder / "cache"))
        patch.setattr(training_run, "TRAIN_NET", script)
        for split in SPLITS:
            register_split(f"little_{split}", LITTLE, split)
        yield run
        for split in SPLITS:
            DatasetCatalog.remove(f"little_{split}")
            MetadataCatalog.remove(f"little_{split}")


@pytest.fixture(scope="module")
def reproduced(relay, tmp_path_factory):
    """The ``output`` of a whole run, and what it ``printed``."""
    output, said = tmp_path_factory.mktemp("reproduced"), io.StringIO()
    with redirect_stdout(said):
        assert relay(output) == 0
    return SimpleNamespace(output=output, printed=said.getvalue())


@pytest.mark.slow
def test_a_table_is_trained_evaluated_and_written(reproduced):
    text = (reproduced.output / "relay.md").read_text()
    assert reproduced.printed.endswith(f"{text}\n")
    assert "4 iterations of 2 images" in text and "SOLVER.MAX_ITER 4`" in text
    written = json.loads((reproduced.output / "relay.json").read_text())
    plain, block = written["rows"]
    for row, config in ((plain, "relay_mask_rcnn"), (block, "relay_mask_rcnn_nl")):
        file = reproduced.output / config / "seed1" / "summary.json"
        results = json.loads(file.read_text())["results"]
        assert row["runs"]["1"]["results"] == results
        shown = cells_of(text, "Mask AP")[row["name"]]
        assert shown[3] == f"{results['segm/AP']:.1f}" and shown[-1] == "1"


@pytest.mark.slow
def test_time_and_memory_are_measured_before_the_training(reproduced):
    estimate, training = reproduced.printed.split("Training takes about")
    for config in ("relay_mask_rcnn", "relay_mask_rcnn_nl"):
        summary = json.loads((reproduced.output / config / "measured/summary.json").read_text())
        row = next(line.split() for line in estimate.splitlines() if line.startswith(f"{config} "))
        seconds, memory = summary["seconds_per_iteration"], summary["peak_memory_mib"]
        assert row[1:5] == [f"{seconds:.3f}", f"{memory / 1024:.1f}", "1", "4"]
        assert f"{config}, seed 1: 0 of 4 iterations done" in training
        assert not list((reproduced.output / config / "measured").glob("*.pth"))


@pytest.mark.slow
def test_a_finished_table_is_not_trained_again(relay, reproduced, capsys, monkeypatch):
    monkeypatch.setattr(training_run.subprocess, "run", None)
    assert relay(reproduced.output) == 0
    assert "## Mask AP" in capsys.readouterr().out
    assert relay(reproduced.output, "--dry-run") == 0
    assert capsys.readouterr().out.count("seed 1: finished") == 2


@pytest.mark.slow
def test_a_run_of_other_settings_is_kept(relay, reproduced):
    said = "SOLVER.BASE_LR 0.0012 there and 0.1 here"
    with pytest.raises(UsageError, match=f"holds a run with other settings .{said}"):
        relay(reproduced.output, overrides=["SOLVER.BASE_LR", "0.1"])


@pytest.mark.slow
def test_a_failed_run_is_reported_while_others_go_on_from_their_last_checkpoint(
    relay, reproduced, tmp_path, capsys, monkeypatch
):
    shutil.copytree(reproduced.output, tmp_path, dirs_exist_ok=True)
    damaged, stopped = (tmp_path / f"relay_mask_rcnn{end}" / "seed1" for end in ("", "_nl"))
    for folder in (damaged, stopped):
        for name in ("summary.json", "model_final.pth", "model_best.pth", "console.txt"):
            (folder / name).unlink()
        (folder / "model_0000003.pth").unlink()
        (folder / "last_checkpoint").write_text("model_0000001.pth")
    (damaged / "model_0000001.pth").write_text("nothing of the kind")
    monkeypatch.setattr(training_run.TrainingRun, "measure", lambda run: (60.0, 1024.0))

    assert relay(tmp_path) == 1
    said = capsys.readouterr()
    assert "0:04:00 in all" in said.out  # 2 of 4 iterations of 2 runs, a minute each
    assert said.out.count("seed 1: 2 of 4 iterations done") == 2
    assert (
        "relay_mask_rcnn, seed 1 failed (exit code 1): train_net.py: error: no checkpoint in"
        in said.err
    )
    assert f"its log: {damaged / 'console.txt'}" in said.err
    assert "Starting training from iteration 2" in (stopped / "console.txt").read_text()
    box = cells_of(said.out, "Box AP")
    assert box["baseline"][-1] == "0"
    assert box["1 block"][-2:] == ["–", "1"]  # it has nothing to be compared with


@pytest.mark.slow
def test_a_config_that_does_not_train_is_reported_before_the_long_work(relay, tmp_path):
    too_small = ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "relative"]  # no pixel is left
    too_small += ["INPUT.CROP.SIZE", "[1e-4, 1e-4]", "INPUT.MASK_FORMAT", "bitmask"]
    with pytest.raises(training_run.RunFailed, match="cannot be used") as caught:
        relay(tmp_path, overrides=too_small)
    console = tmp_path / "relay_mask_rcnn/measured/console.txt"
    assert f"its log: {console}" in str(caught.value) and console.exists()
    assert not (tmp_path / "relay_mask_rcnn/seed1").exists()
