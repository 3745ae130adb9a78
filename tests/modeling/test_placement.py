"""Where blocks stand in a backbone: names of places and the order of children."""

from itertools import pairwise

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from helpers import tiny_cfg, with_blocks
from torch import nn

from nl_detectron.config import default_block
from nl_detectron.engine import build_on_meta
from nl_detectron.modeling import add_backbone_blocks, find_blocks
from nl_detectron.modeling.backbone import parse_places
from nl_detectron.modeling.placement import insert_after

R50 = {"res2": 3, "res3": 4, "res4": 6, "res5": 3}
R101 = {**R50, "res4": 23}
X152 = {**R50, "res3": 8, "res4": 36}


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
    add_backbone_blocks(resnet, after, **default_block())
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
