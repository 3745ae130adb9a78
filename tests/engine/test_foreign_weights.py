"""Weights of another project or size are refused before a run, with the command that converts."""

import logging

import pytest
import torch
import torchvision
from helpers import tiny_cfg
from torch import nn

from nl_detectron.engine import Checkpointer, load_model, preflight
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model


def names_of(model):
    with torch.device("meta"):
        return list(model(weights=None).state_dict())


RESNET = names_of(torchvision.models.resnet18)
CONVERT = "python tools/convert_weights.py --source"
FILES = {
    "nonsense": (["foreign.weight"], "no names of Detectron2's; give MODEL.WEIGHTS"),
    "torchvision": (RESNET, f"torchvision or timm; to convert it: {CONVERT} torchvision --input"),
    "moco": ([f"module.encoder_q.{name}" for name in RESNET], f"MoCo; .*{CONVERT} torchvision"),
    "detector": ([f"backbone.body.{name}" for name in RESNET], f"detectors; .*{CONVERT} torchv"),
    "mmdetection": ([f"backbone.{name}" for name in RESNET], f"OpenMMLab .*{CONVERT} mmcv"),
    "slowfast": (["s1.pathway0_stem.conv.weight"], f"SlowFast .*{CONVERT} slowfast"),
    "vit": (["patch_embed.proj.weight", "blocks.0.norm1.weight"], "a transformer or ConvNeXt"),
    "heads": (["roi_heads.box_predictor.cls_score.weight"], r"of another size: .* is \(1,\) there"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    there = tmp_path_factory.mktemp("foreign")
    for file, (names, _) in FILES.items():
        state = {name: torch.zeros(1) for name in names}
        wrapped = file in ("moco", "mmdetection")  # as those have it
        torch.save({"state_dict": state, "epoch": 3} if wrapped else state, there / f"{file}.pth")
    return there


@pytest.mark.parametrize("words", [(), ("--eval-only",)], ids=["training", "evaluation"])
@pytest.mark.parametrize("file", FILES)
def test_foreign_weights_stop_a_run_before_it_writes(
    file, words, folder, tiny_config, arguments, tmp_path
):
    path = folder / f"{file}.pth"
    cfg = tiny_config(tmp_path / "run", "MODEL.WEIGHTS", path)
    count = len(FILES[file][0])
    start = rf"checkpoint '{path}' lacks this model's backbone: of its {count} tensors"
    with pytest.raises(UsageError, match=f"{start} .* none belongs there.*{FILES[file][1]}"):
        preflight(cfg, arguments(*words))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("file", ["nonsense", "torchvision"])
def test_foreign_weights_make_no_model(file, folder, tiny_config, tmp_path):
    cfg = tiny_config(tmp_path)
    with pytest.raises(UsageError, match="lacks this model's backbone"):
        load_model(cfg, weights=str(folder / f"{file}.pth"))


def test_statistics_that_frozen_norms_fill_in_do_not_count(folder):
    """Detectron2's FrozenBN adds what a file lacks, to the file's tensors as well."""
    model = nn.Sequential(build_model(tiny_cfg()).backbone.bottom_up, nn.Linear(2, 2))
    torch.save({"1.weight": torch.ones(2, 2)}, folder / "linear.pth")
    checkpointer = Checkpointer(model)
    checkpointer.load(str(folder / "linear.pth"))
    assert set(checkpointer.fresh) == set(model.state_dict()) - {"1.weight"}


def test_weights_of_another_size_are_refused_with_both_sizes(tmp_path):
    cfg = tiny_cfg()
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    stem = {"backbone.bottom_up.stem.conv1.weight": torch.zeros(4, 3, 7, 7)}
    torch.save(stem, tmp_path / "stem.pth")
    with pytest.raises(UsageError, match=r"another size: .*stem.conv1.weight is \(4, 3, 7, 7\)"):
        Checkpointer(build_model(tiny_cfg())).load(str(tmp_path / "stem.pth"))


def test_many_tensors_of_another_shape_are_one_line(tmp_path, caplog):
    wide = tiny_cfg()
    wide.MODEL.RESNETS.WIDTH_PER_GROUP = 16
    torch.save(build_model(wide).state_dict(), tmp_path / "wide.pth")
    checkpointer = Checkpointer(build_model(tiny_cfg()))
    caplog.clear()
    with caplog.at_level(logging.INFO):
        checkpointer.load(str(tmp_path / "wide.pth"))
    (warning,) = (r.message for r in caplog.records if r.levelno >= logging.WARNING)
    count = len(checkpointer.fresh)
    assert count > 100
    assert warning.startswith(f"{count} tensors are not loaded") and warning.count("is (") == 4
    assert warning.endswith(f"; and {count - 4} more")
    assert len(caplog.records) < 8
