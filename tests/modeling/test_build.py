"""A model has the blocks that its config names, or is refused; the log says where they stand."""

import logging

import pytest
from helpers import tiny_cfg, with_blocks

from nl_detectron.engine import build_on_meta
from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import find_blocks


@pytest.fixture
def log(caplog, monkeypatch):
    # Detectron2's setup_logger, which another test may have called, stops propagation
    monkeypatch.setattr(logging.getLogger("nl_detectron"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nl_detectron")
    return caplog


@pytest.mark.slow
def test_empty_lists_of_nonlocal_parts_are_refused():
    backbone = tiny_cfg()
    backbone.MODEL.BACKBONE.NAME = "build_nonlocal_resnet_fpn_backbone"
    with pytest.raises(ValueError, match=r"BACKBONE.AFTER is empty"):
        build_on_meta(backbone)
    head = tiny_cfg(task="keypoint")
    head.MODEL.ROI_KEYPOINT_HEAD.NAME = "NonLocalKeypointHead"
    with pytest.raises(ValueError, match=r"KEYPOINT_HEAD.AFTER is empty"):
        build_on_meta(head)


@pytest.mark.parametrize("arch", ["FPN", "C4"])
def test_places_for_a_plain_backbone_are_refused(arch):
    cfg = tiny_cfg(arch)
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res4.-2"]
    with pytest.raises(ValueError) as error:
        build_on_meta(cfg)
    assert "BACKBONE.AFTER is ['res4.-2']" in str(error.value)
    assert f"MODEL.BACKBONE.NAME is {cfg.MODEL.BACKBONE.NAME}" in str(error.value)
    assert "expected build_nonlocal_resnet_fpn_backbone" in str(error.value)


@pytest.mark.parametrize(
    "task, name, says",
    [
        ("keypoint", "KRCNNConvDeconvUpsampleHead", "NAME is KRCNNConvDeconvUpsampleHead"),
        ("mask", "NonLocalKeypointHead", "KEYPOINT_ON is False"),
    ],
)
@pytest.mark.parametrize("backbone", [(), ("res4.-2",)])
def test_convs_for_no_nonlocal_head_are_refused(task, name, says, backbone):
    cfg = with_blocks(tiny_cfg(task=task), backbone)  # blocks elsewhere do not count
    cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = name
    cfg.MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER = [2]
    with pytest.raises(ValueError) as error:
        build_on_meta(cfg)
    assert "KEYPOINT_HEAD.AFTER is [2]" in str(error.value)
    assert says in str(error.value)


def test_frozen_norm_is_refused_by_a_whole_model_too():
    with pytest.raises(ValueError, match="no gradient would reach the block"):
        build_on_meta(with_blocks(tiny_cfg(), NORM="FrozenBN"))


def test_baseline_builds_without_blocks():
    model = build_on_meta(tiny_cfg(task="keypoint"))
    assert not any(isinstance(m, NonLocalBlock) for m in model.modules())
    assert find_blocks(model) == {}


def test_log_says_what_stands_where(log):
    cfg = with_blocks(tiny_cfg(task="keypoint"), ["res3.0", "res4.-2"], [2], PAIRWISE="gaussian")
    build_on_meta(cfg)
    lines = [r.getMessage() for r in log.records if r.name.startswith("nl_detectron")]
    assert lines == [
        "Non-local blocks in the backbone: "
        "res3.nonlocal0 (gaussian, 64 -> 32 channels, 4,192 parameters); "
        "res4.nonlocal4 (gaussian, 128 -> 64 channels, 16,576 parameters)",
        "Non-local blocks in the keypoint head: "
        "nonlocal2 (gaussian, 8 -> 4 channels, 76 parameters)",
    ]
