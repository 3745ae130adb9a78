"""tools/publish_checkpoint.py with a run of a video model."""

import pytest
import torch
import yaml

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from coco_files import restore_catalogues
from video_processes import make_config, register

from tools.publish_checkpoint import main


@pytest.mark.slow
def test_a_video_model_is_published_after_a_clip_of_noise(train, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))
    with restore_catalogues():
        register()
        train(make_config(tmp_path / "run", "SOLVER.MAX_ITER", 1))
        main([str(tmp_path / "run"), "--name", "tiny/video", "--output", str(tmp_path / "zoo")])
    said = capsys.readouterr().out
    assert "and ran it once: 3 scores in a clip of noise" in said
    [file] = (tmp_path / "zoo").glob("*.pth")
    entry = yaml.safe_load((tmp_path / "zoo/index.yaml").read_text())["tiny/video"]["trained"]
    assert entry["checkpoint"] == file.name
    assert entry["metrics"].keys() == {"video/top1", "video/top1_1view"}
    run = torch.load(tmp_path / "run/model_final.pth")["model"]
    assert all(torch.equal(tensor, run[name]) for name, tensor in torch.load(file)["model"].items())
