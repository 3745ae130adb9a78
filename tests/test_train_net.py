"""The command line: a run that works, and mistakes that end in one line rather than a traceback."""

import logging
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from coco_files import restore_catalogues, valid_content, write

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "train_net.py"
DEMO = ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.yaml"

# train_net.py itself, in a process that also knows a tiny data set
WITH_TINY_RELAY = f"""
import runpy, sys
from nl_detectron.relay import Relay, register_split
for split in ("train", "val"):
    register_split(f"tiny_{{split}}", Relay(train=4, val=2, height=64, width=128, signal=9), split)
sys.argv[0] = {str(SCRIPT)!r}
runpy.run_path(sys.argv[0], run_name="__main__")
"""
THIN = [
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2"),
    *("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_val',)"),
]


@pytest.fixture
def process(tmp_path, monkeypatch):
    """Runs Python in the project's folder, without a CUDA device to see."""
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(*words) -> subprocess.CompletedProcess:
        command = [sys.executable, *map(str, words)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_a_config_and_overrides_train_and_evaluate(process, tmp_path):
    done = process(
        *("-c", WITH_TINY_RELAY, "--config-file", DEMO, *THIN),
        *("SOLVER.MAX_ITER", 2, "SOLVER.STEPS", "()", "OUTPUT_DIR", tmp_path / "run"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Running on the CPU") == 1
    first, *others = done.stdout.splitlines()
    assert first.startswith("Training for 2 iterations of 2 images on cpu, into ")
    assert not any("Running with full config" in line for line in others)
    known = ("UserWarning", "FutureWarning", "DeprecationWarning", "Category ids")
    assert not any(word in done.stdout + done.stderr for word in known), done.stderr
    assert "Evaluation results for segm" in done.stdout
    assert (tmp_path / "run" / "model_final.pth").exists()
    assert (tmp_path / "run" / "summary.json").exists()

    evaluated = process(
        *("-c", WITH_TINY_RELAY, "--eval-only", "--config-file", DEMO, *THIN),
        *("MODEL.WEIGHTS", tmp_path / "run" / "model_final.pth"),
        *("OUTPUT_DIR", tmp_path / "evaluated"),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    assert (tmp_path / "evaluated" / "evaluation.json").exists()
    assert not list((tmp_path / "evaluated").glob("*.pth"))


@pytest.mark.slow
def test_a_mistake_is_one_line_and_an_exit_code(process):
    done = process(SCRIPT, "--config-file", DEMO, "MODEL.NONLOCAL.BACKBONE.AFTER", "['res9.0']")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("train_net.py: error: ")]
    assert len(errors) == 1
    assert done.stderr.splitlines()[-1] == errors[0]
    assert "there is no 'res9.0'" in errors[0]


@pytest.fixture
def files(tmp_path):
    (tmp_path / "broken.yaml").write_text("MODEL: [1, 2")
    (tmp_path / "mistyped.yaml").write_text("SOLVER:\n  BASE_LRR: 0.1\n")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    torch.save({"model": {"backbone.bottom_up.x": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "torchvision.pth")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model_final.pth").write_text("")
    (tmp_path / "run" / "config.yaml").write_text("")
    write(tmp_path, valid_content(), "birds_train")
    (tmp_path / "empty").mkdir()
    return tmp_path


@pytest.fixture
def restore_loggers():
    """Detectron2 gives loggers handlers and stops their propagation, for the whole process."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "nl_detectron")]
    before = [(log.level, log.propagate, log.handlers[:]) for log in loggers]
    yield
    for log, (level, log.propagate, log.handlers[:]) in zip(loggers, before, strict=True):
        log.setLevel(level)


@pytest.mark.parametrize(
    "words, message",
    [
        ("", "no config"),
        ("--config-file nope.yaml", "'nope.yaml' does not exist"),
        (
            "--config-file {files}/run",
            "run' is a folder: give a file, such as {files}/run/config.y",
        ),
        ("--config-file relay_mask_rcnn_n.yaml", "configs/Demo/relay_mask_rcnn_nl.yaml"),
        ("--config-file COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_x1", "FPN_nl_1x.yaml"),
        ("SEED 1 --config-file nope.yaml", "'nope.yaml' does not exist"),
        ("--config-file {demo} MODEL.WEIGHTS {files}/run", "is a folder: give a file, such as"),
        ("--config-file {demo} MODEL.WEIGHTS {files}/torchvision.pth", "--source torchvision"),
        ("--config-file {demo} --dataset b_train={files}/run.json:{files}", "no such file"),
        (
            "--config-file {demo} --dataset b_train={birds}:{files}/nope",
            "--dataset b_train: its images are not at {files}/nope; correct the path",
        ),
        (
            "--config-file {demo} --dataset c_train={birds}:{files}/empty DATASETS.TEST ()",
            "2 of its 2 images are not in {files}/empty or cannot be read",
        ),
        ("--config-file {files}/broken.yaml", "broken.yaml' cannot be read"),
        ("--config-file {files}/mistyped.yaml", "did you mean SOLVER.BASE_LR"),
        ("--config-file {demo} SOLVER.BASE_LRR 1", "did you mean SOLVER.BASE_LR"),
        ("--config-file {demo} SOLVER.BASE_LR", "KEY VALUE"),
        ("--config-file {demo} SOLVER.MAX_ITER many", "SOLVER.MAX_ITER"),
        ("--config-file {demo} MODEL.DEVICE cuda", "no CUDA device"),
        ("--config-file {demo} MODEL.NONLOCAL.PAIRWISE cosine", "'cosine'"),
        ("--config-file {demo} MODEL.BACKBONE.NAME nope", "'nope'"),
        ("--config-file {demo} DATASETS.TEST ('relay_vla',)", "relay_val"),
        ("--config-file {demo} DATASETS.TRAIN ()", "DATASETS.TRAIN is empty"),
        ("--config-file {demo} MODEL.WEIGHTS {files}/nope.pth", "does not exist"),
        ("--config-file {demo} MODEL.WEIGHTS {files}/text.pth", "cannot be read"),
        ("--config-file {demo} SOLVER.AMP.DTYPE fp16", "SOLVER.AMP.DTYPE: expected one of"),
        ("--config-file {demo} SOLVER.OPTIMIZER Adamm", "'Adamm'"),
        ("--num-gpus 3 --config-file {demo}", "--num-gpus 3"),
        ("--eval-only --config-file {demo}", "--eval-only needs MODEL.WEIGHTS"),
        ("--eval-only --config-file {demo} MODEL.WEIGHTS {files}/other.pth", "lacks"),
    ],
)
@pytest.mark.usefixtures("restore_loggers")
def test_each_mistake_is_reported_in_one_line(words, message, files, monkeypatch):
    """In this process, since each import of torch takes seconds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(files)
    names = {"demo": DEMO, "files": files, "birds": files / "birds_train.json"}
    line = words.format(**names).split()
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *line])
    with restore_catalogues(), pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    # Python prints a text on stderr and exits with 1
    assert isinstance(stop.value.code, str)
    assert stop.value.code.startswith("train_net.py: error: ")
    assert "\n" not in stop.value.code
    assert message.format(**names) in stop.value.code
