"""The command line of runs in two processes."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from distributed_runs import TORCHRUN

from nl_detectron.relay import Relay, write_dataset

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.several


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """The words of train_net.py for a data set of a few images, and the thin Demo config."""
    relay = Relay(train=4, val=3, height=64, width=128, signal=9)
    data = write_dataset(relay, tmp_path_factory.mktemp("data") / "relay")
    sets = [f"two_{part}={data}/{part}.json:{data}/{part}" for part in ("train", "val")]
    return ["train_net.py", *(word for one in sets for word in ("--dataset", one))]


def count_evaluations(words, folder) -> int:
    """Run a command line to its end, which leaves all files of a run; returns its evaluations."""
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout + done.stderr
    for words in ("Warning", "is_fx_tracing", "No CUDA runtime"):  # of packages' own warnings
        assert not [line for line in printed.splitlines() if words in line]
    left = {path.name for path in folder.iterdir()}
    assert left >= {"model_final.pth", "model_best.pth", "summary.json", "log.txt.rank1"}
    return done.stdout.count("Evaluation results for segm")


def test_two_processes_train_and_evaluate_by_num_gpus(environment, line, tmp_path):
    thin = [
        *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
        *("INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "2"),
        *("SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "1", "VISUALIZE.PERIOD", "1"),
    ]
    config = ["--config-file", "configs/Demo/relay_mask_rcnn_nl.yaml"]
    words = [*line, *config, "--num-gpus", "2", "--dist-url", "auto", *thin, "OUTPUT_DIR"]
    assert count_evaluations([sys.executable, *words, str(tmp_path)], tmp_path) == 2


def test_two_processes_train_and_evaluate_by_torchrun(environment, line, tmp_path):
    thin = [
        *("dataloader.train.dataset.names=two_train", "dataloader.test.dataset.names=two_val"),
        "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
        "dataloader.test.mapper.augmentations.0.short_edge_length=64",
        *("dataloader.train.total_batch_size=2", "lr_multiplier.warmup_length=0"),
        *("train.device=cpu", "train.max_iter=2", f"train.output_dir={tmp_path}"),
    ]
    config = ["--config-file", "configs/Demo/relay_mask_rcnn_nl.py"]
    assert count_evaluations([*TORCHRUN, *line, *config, *thin], tmp_path) == 1


def test_sigterm_stops_both_processes_at_the_same_iteration(environment, line, tmp_path):
    thin = [
        *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
        *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
        *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "9000", "SOLVER.CHECKPOINT_PERIOD", "3"),
    ]
    config = ["--config-file", "configs/Demo/relay_mask_rcnn_nl.yaml"]
    words = [*line, *config, "--num-gpus", "2", "--dist-url", "auto", *thin]
    with (tmp_path / "console").open("w") as console:
        run = subprocess.Popen(
            [sys.executable, *words, "OUTPUT_DIR", str(tmp_path)], cwd=ROOT, stderr=console
        )
        while not (tmp_path / "last_checkpoint").exists() and run.poll() is None:
            time.sleep(0.02)
        run.terminate()  # only the launcher
        assert run.wait() == 143
    assert "Traceback" not in (tmp_path / "console").read_text()
    log = (tmp_path / "log.txt").read_text()
    assert log.count("Stopped by SIGTERM after") == 1
    assert "To continue: python train_net.py --resume --dataset" in log
    last = (tmp_path / "last_checkpoint").read_text()
    state = torch.load(tmp_path / last, weights_only=True)["trainer"]["hooks"]["ResumeState"]
    assert len(state["ranks"]) == 2
    assert last == f"model_{state['iteration']:07d}.pth"
