"""Where blocks stand: names of places, the order of children, and what is refused."""

import logging
from itertools import pairwise

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from helpers import tiny_cfg, with_blocks
from torch import nn

from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import (
    NonLocalKeypointHead,
    add_backbone_blocks,
    build_model,
    find_blocks,
)
from nl_detectron.modeling.backbone import parse_places
from nl_detectron.modeling.placement import insert_after

R50 = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}
R101 = {**R50, "res4": 23}
X152 = {**R50, "res3": 8, "res4": 36}
OPTIONS = {
    "pairwise": "embedded_gaussian",
    "reduction": 2,
    "subsample": "before",
    "use_scale": True,
    "norm": "",
    "checkpoint": False,
}


def build_on_meta(cfg):
    """Shapes without memory."""
    cfg = cfg.clone()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg)


def make_head(after, convs=8, **options):
    return NonLocalKeypointHead(
        ShapeSpec(channels=16),
        num_keypoints=17,
        conv_dims=[8] * convs,
        after=after,
        block={**OPTIONS, **options},
    )


@pytest.fixture
def log(caplog, monkeypatch):
    # Detectron2's setup_logger, which another test may have called, stops propagation
    monkeypatch.setattr(logging.getLogger("nl_detectron"), "propagate", True)
    caplog.set_level(logging.INFO, logger="nl_detectron")
    return caplog


# --- names of places


@pytest.mark.parametrize(
    "after, lengths, places",
    [
        (["res4.-2"], R50, [("res4", 4)]),  # right before the last block of res4 (Sec. 4.1)
        (["res4.-2"], R101, [("res4", 21)]),
        (["res4.-2"], X152, [("res4", 34)]),
        (["res2.0"], R50, [("res2", 0)]),
        (["res5.2"], R50, [("res5", 2)]),
        (["res5.-3"], R50, [("res5", 0)]),
        (["res3.*"], R50, [("res3", i) for i in range(4)]),
        (["res4.5", "res3.1"], R50, [("res4", 5), ("res3", 1)]),  # as they are named
        (("res3.*", "res4.-1"), R50, [("res3", i) for i in range(4)] + [("res4", 5)]),
    ],
)
def test_places(after, lengths, places):
    assert parse_places(after, lengths) == places


NOT_PLACES = "res4.6 res4.-7 res1.0 res6.0 stem.0 layer3.1 res4 res4. res4.x res4.** res4.1.0 *"


@pytest.mark.parametrize("place", [*NOT_PLACES.split(), " res4.1", "res4.1 ", "", 4, 4.1, None])
def test_places_that_do_not_exist_are_refused(place):
    with pytest.raises(ValueError) as error:
        parse_places(["res4.-2", place], R50)
    assert f"MODEL.NONLOCAL.BACKBONE.AFTER: there is no {place!r}" in str(error.value)
    assert "res2.0 to res2.2, res3.0 to res3.3, res4.0 to res4.5, res5.0 to res5.2" in str(
        error.value
    )


@pytest.mark.parametrize(
    "after, twice",
    [
        (["res4.4", "res4.4"], "names res4.4 more than once"),
        (["res4.4", "res4.-2"], "names res4.4 more than once"),
        (["res3.*", "res3.1"], "names res3.1 more than once"),
        (["res5.-1", "res5.*", "res5.0"], "names res5.0, res5.2 more than once"),
    ],
)
def test_places_named_twice_are_refused(after, twice):
    with pytest.raises(ValueError, match=twice):
        parse_places(after, R50)


def test_no_place_is_refused():
    with pytest.raises(ValueError, match=r"AFTER is empty.*a baseline.*res4.0 to res4.5"):
        parse_places([], R50)


def test_stage_that_out_features_leaves_out_is_refused():
    cfg = with_blocks(tiny_cfg("C4"), ["res5.0"])  # OUT_FEATURES ["res4"]
    with pytest.raises(ValueError) as error:
        build_on_meta(cfg)
    assert "there is no 'res5.0'" in str(error.value)
    assert "has res2.0 to res2.2, res3.0 to res3.3, res4.0 to res4.5 (" in str(error.value)
    assert "OUT_FEATURES" in str(error.value)


# --- children of a stage


def test_insert_after_keeps_names_modules_and_order():
    sequential = nn.Sequential(nn.Linear(1, 1), nn.ReLU(), nn.Tanh())
    before = dict(sequential.named_children())
    new = nn.Identity()
    insert_after(sequential, "0", "new", new)
    assert [name for name, _ in sequential.named_children()] == ["0", "new", "1", "2"]
    assert sequential.new is new
    assert all(getattr(sequential, name) is child for name, child in before.items())


@pytest.mark.parametrize("after", [["res4.*"], ["res4.4", "res4.0"], ["res4.0", "res4.4"]])
def test_blocks_run_right_after_their_residual_block(after):
    resnet = build_resnet_backbone(tiny_cfg("C4"), ShapeSpec(channels=3))
    add_backbone_blocks(resnet, after, **OPTIONS)
    ran = []

    def note(name):
        return lambda module, inputs, output: ran.append((name, inputs[0], output))

    for name, child in resnet.res4.named_children():
        child.register_forward_hook(note(name))
    out = resnet(torch.randn(1, 3, 64, 64))["res4"]
    expected = []
    for i in range(6):
        chosen = "res4.*" in after or f"res4.{i}" in after
        expected += [str(i), f"nonlocal{i}"] if chosen else [str(i)]
    assert [name for name, _, _ in ran] == expected
    for (_, _, given), (_, taken, _) in pairwise(ran):
        assert taken is given
    assert out is ran[-1][2]
    assert [name for name, _ in resnet.res4.named_children()] == expected


@pytest.mark.parametrize("arch, after", [("FPN", ["res3.*", "res4.-2"]), ("C4", ["res2.0"])])
@pytest.mark.parametrize("norm", ["", "BN"])
def test_every_tensor_of_the_baseline_keeps_its_name_and_shape(arch, after, norm):
    cfg = tiny_cfg(arch)
    baseline = {k: v.shape for k, v in build_on_meta(cfg).state_dict().items()}
    model = build_on_meta(with_blocks(cfg, after, NORM=norm))
    kept = {k: v.shape for k, v in model.state_dict().items() if ".nonlocal" not in k}
    assert kept == baseline
    assert len(model.state_dict()) > len(baseline)


@pytest.mark.parametrize(
    "depth, groups, index, channels",
    [
        (18, 1, 0, 256),
        (34, 1, 4, 256),
        (50, 1, 4, 128),
        (101, 1, 21, 128),
        (152, 1, 34, 128),
        (101, 4, 21, 128),  # ResNeXt
        (152, 4, 34, 128),
    ],
)
def test_one_block_stands_before_the_last_of_res4_at_every_depth(depth, groups, index, channels):
    cfg = tiny_cfg(depth=depth)
    cfg.MODEL.RESNETS.NUM_GROUPS = groups
    model = build_on_meta(with_blocks(cfg))
    blocks = find_blocks(model)
    assert list(blocks) == [f"backbone.bottom_up.res4.nonlocal{index}"]
    (block,) = blocks.values()
    assert (block.in_channels, block.inner_channels) == (channels, channels // 2)
    names = [name for name, _ in model.backbone.bottom_up.res4.named_children()]
    assert names[-2:] == [f"nonlocal{index}", str(index + 1)]


def test_every_key_reaches_the_blocks():
    cfg = tiny_cfg(task="keypoint")
    keys = {"PAIRWISE": "dot_product", "REDUCTION": 4, "SUBSAMPLE": "after", "NORM": "LN"}
    keys["CHECKPOINT"] = True
    model = build_on_meta(with_blocks(cfg, ["res4.-2"], [2], USE_SCALE=False, **keys))
    blocks = find_blocks(model)
    assert len(blocks) == 2
    for block in blocks.values():
        assert block.pairwise_name == "dot_product"
        assert block.inner_channels == block.in_channels // 4
        assert block.subsample == "after"
        assert block.pairwise.use_scale is False
        assert block.checkpoint is True
        assert type(block.norm).__name__ == "LayerNorm"


@pytest.mark.parametrize("reduction", [0, -1, 129])
def test_reduction_to_no_channels_is_refused(reduction):
    with pytest.raises(ValueError, match=f"REDUCTION: expected 1 to 128 here, got {reduction}"):
        build_on_meta(with_blocks(tiny_cfg(), REDUCTION=reduction))


# --- the keypoint head


@pytest.mark.parametrize("after", [[2, 4, 6, 8], [1], [8, 1]])
def test_head_blocks_follow_their_convs_relu(after):
    head = make_head(after)
    expected = []
    for i in range(1, 9):
        expected += [f"conv_fcn{i}", f"conv_fcn_relu{i}"]
        expected += [f"nonlocal{i}"] if i in after else []
    assert [name for name, _ in head.named_children()] == [*expected, "score_lowres"]

    ran = []
    for name, child in head.named_children():
        child.register_forward_hook(lambda *_, name=name: ran.append(name))
    assert head.layers(torch.randn(2, 16, 4, 4)).shape == (2, 17, 16, 16)
    assert ran == [*expected, "score_lowres"]


def test_heads_own_init_leaves_the_blocks_identities():
    # Detectron2's head gives every parameter that it finds He's init: W_z must come later.
    for block in find_blocks(make_head([2, 4, 6, 8])).values():
        assert not block.w_z.weight.any()
        assert block.theta.weight.std().item() == pytest.approx(0.01, rel=0.5)
    for block in find_blocks(make_head([2, 4], norm="LN")).values():
        assert not block.norm.weight.any()


@pytest.mark.parametrize("conv", [0, 9, -1, "2", 2.0, None])
def test_convs_that_do_not_exist_are_refused(conv):
    with pytest.raises(ValueError, match=f"there is no conv {conv!r}; this head has 1 to 8"):
        make_head([4, conv])


def test_head_without_or_with_doubled_convs_is_refused():
    with pytest.raises(ValueError, match=r"KEYPOINT_HEAD.AFTER is empty.*a baseline.*1 to 8"):
        make_head([])
    with pytest.raises(ValueError, match=r"more than once in \[2, 4, 2\]"):
        make_head([2, 4, 2])


def test_a_norm_that_needs_rois_in_every_process_is_refused_in_a_head():
    with pytest.raises(ValueError, match=r"naiveSyncBN would stop in the keypoint head.*BN_N"):
        make_head([2], norm="naiveSyncBN")
    make_head([2], norm="naiveSyncBN_N")


# --- a config that names blocks gets them, or is refused


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
