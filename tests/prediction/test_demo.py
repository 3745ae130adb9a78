"""tools/demo.py: weights that are lacking, and a user's mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers import load_tool
from media import CONFIGS, THIN, save_image

from nl_detectron.errors import UsageError
from nl_detectron.prediction.predictor import load_prediction_config

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_weights_that_are_lacking_are_reported(opts, tmp_path, capsys):
    path = save_image(tmp_path / "image.png")
    baseline = opts("relay_mask_rcnn")[-1]
    words = ["--config-file", str(CONFIGS / "relay_mask_rcnn_nl.yaml"), "--input", str(path)]
    words += ["--output", str(tmp_path / "out")]
    weights = ["--opts", *THIN, "MODEL.WEIGHTS"]
    assert load_tool("demo").main([*words, *weights, baseline]) == 0
    assert "warning" not in capsys.readouterr().err  # a new block is the identity
    words += ["--attention", "auto"]
    assert load_tool("demo").main([*words, *weights, baseline]) == 0
    reported = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert (
        len(reported) == 1 and "lacks backbone.bottom_up.res4.nonlocal4: untrained" in reported[0]
    )
    kept = {k: v for k, v in torch.load(baseline)["model"].items() if "roi_heads" not in k}
    torch.save({"model": kept}, tmp_path / "backbone.pth")
    assert load_tool("demo").main([*words, *weights, str(tmp_path / "backbone.pth")]) == 0
    reported = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(reported) == 2 and "such as roi_heads." in reported[0]


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["--input", "nothing.png"], "nothing of --input can be read"),
        (["--input", "bad.png"], "nothing could be read"),
        (["--input", "image.png", "--output", "image.png"], "expected a folder"),
        (["--input", "image.png", "--output", "image.png/in"], "expected a folder"),
        (["--input", "image.png", "--output", "."], "which a picture could replace"),
        (["--input", "link.png", "--output", "."], "which a picture could replace"),
        (["--input", "image.png", "--opts", "MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        (["--input", "image.png", "--opts", "MODEL.WEIGHTS", "no.pth"], "does not exist"),
        (["--input", "image.png", "--opts", "MODEL.WEIGHT", "x"], "there is no config key"),
    ],
)
def test_mistakes_are_reported(opts, tmp_path, monkeypatch, words, reported):
    monkeypatch.chdir(tmp_path)
    save_image(tmp_path / "image.png")
    (tmp_path / "link.png").symlink_to(save_image(tmp_path / "elsewhere/image.png"))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    if "--opts" not in words:
        words = [*words, "--opts", *opts("relay_mask_rcnn")]
    config = ["--config-file", str(CONFIGS / "relay_mask_rcnn.yaml"), "--output", "out"]
    with pytest.raises(UsageError, match=reported) as caught:
        load_tool("demo").main([*config, *words])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ([], "one of the arguments --input --webcam is required"),
        (["--input", "a.png", "--webcam"], "not allowed with"),
        (["--input", "a.png", "--attention", "12"], "expected X,Y in pixels of the image"),
        (["--input", "a.png", "--attention", "all"], "or auto, got 'all'"),
        (["--input", "a.png", "--batch-size", "0"], "expected a whole number of 1 or more"),
        (["--input", "a.png", "--confidence-threshold", "50"], "expected a score of 0 to 1"),
    ],
)
def test_words_that_mean_nothing_are_reported(capsys, words, reported):
    with pytest.raises(SystemExit):
        load_tool("demo").main(["--config-file", "a.yaml", "--output", "out", *words])
    assert reported in capsys.readouterr().err


def test_the_threshold_reaches_a_retinanet():
    config = ROOT / "configs/COCO-Detection/retinanet_R_50_FPN_nl_1x.yaml"
    cfg = load_prediction_config(str(config), [], [], 0.3, print)
    assert cfg.MODEL.RETINANET.SCORE_THRESH_TEST == 0.3


@pytest.mark.slow
def test_an_error_is_one_line_without_a_traceback(tmp_path):
    words = ["--config-file", "nowhere.yaml", "--input", "a.png", "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/demo.py", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("demo.py: error: config file 'nowhere.yaml' does not exist")
    assert done.stderr.count("\n") == 1
