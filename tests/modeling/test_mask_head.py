"""The mask head with blocks: their places among its layers, and what it refuses."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from helpers import thin_cfg, with_blocks
from torch import nn

from nl_detectron.modeling import NonLocalMaskHead, build_model, find_blocks

MASK_HEAD = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nlhead_1x"


def make_head(after, convs=4, norm="", **options):
    cfg = thin_cfg(MASK_HEAD)
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = convs
    cfg.MODEL.ROI_MASK_HEAD.NORM = norm
    cfg.MODEL.NONLOCAL.MASK_HEAD.AFTER = after
    cfg.MODEL.NONLOCAL.update(options)
    return NonLocalMaskHead(cfg, ShapeSpec(channels=16))


@pytest.mark.parametrize("norm", ["", "BN"])
@pytest.mark.parametrize("after", [[2, 4], [1], [4, 1]])
def test_blocks_of_the_mask_head_follow_their_convs(after, norm):
    head = make_head(after, norm=norm)
    expected = []
    for i in range(1, 5):
        expected += [f"mask_fcn{i}"] + [f"nonlocal{i}"] * (i in after)
    expected += ["deconv", "deconv_relu", "predictor"]
    assert [name for name, _ in head.named_children()] == expected
    ran = []
    for name, child in head.named_children():
        child.register_forward_hook(lambda *_, name=name: ran.append(name))
    assert head.layers(torch.randn(2, 16, 6, 6)).shape == (2, 3, 12, 12)
    assert ran == expected
    for name, block in find_blocks(head).items():
        assert not block.w_z.weight.any(), name  # after the head's own init
    conv = head.mask_fcn1
    assert isinstance(conv.activation, nn.ReLU)  # so that a block follows the ReLU


@pytest.mark.parametrize("conv", [0, 5, -1, "2", 2.0, None])
def test_convs_that_the_mask_head_lacks_are_refused(conv):
    with pytest.raises(ValueError, match=f"MASK_HEAD.AFTER: there is no conv {conv!r}; .* 1 to 4"):
        NonLocalMaskHead(
            ShapeSpec(channels=16), num_classes=3, conv_dims=[8] * 5, after=[2, conv], block={}
        )


@pytest.mark.parametrize(
    ("after", "convs", "message"),
    [
        ([], 4, r"MASK_HEAD.AFTER is empty.*a baseline.*1 to 4"),
        ([2, 4, 2], 4, r"MASK_HEAD.AFTER: a conv is named more than once in \[2, 4, 2\]"),
        ([1], 0, r"MASK_HEAD.AFTER: this head has no convs .*NUM_CONV"),  # C4's
    ],
)
def test_no_conv_and_doubled_convs_are_refused(after, convs, message):
    with pytest.raises(ValueError, match=message):
        make_head(after, convs)


def test_options_reach_the_blocks_of_the_mask_head():
    blocks = find_blocks(make_head([2, 4], PAIRWISE="dot_product", REDUCTION=4)).values()
    assert [(b.pairwise_name, b.in_channels, b.inner_channels) for b in blocks] == [
        ("dot_product", 8, 2)
    ] * 2


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "NonLocalMaskHead"),
        ("MODEL.MASK_ON", False, True),
    ],
)
def test_convs_for_no_nonlocal_mask_head_are_refused(key, value, expected):
    cfg = thin_cfg(MASK_HEAD)
    cfg.merge_from_list([key, value])
    with pytest.raises(ValueError) as error:
        build_model(cfg)
    said = f"MASK_HEAD.AFTER is [2, 4], but {key} is {value} (expected {expected})"
    assert said in str(error.value)


def test_a_model_without_a_mask_head_refuses_its_blocks():
    cfg = with_blocks(thin_cfg("COCO-Detection/retinanet_R_50_FPN_1x"))
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.ROI_MASK_HEAD.NAME = "NonLocalMaskHead"
    cfg.MODEL.NONLOCAL.MASK_HEAD.AFTER = [2]
    with pytest.raises(ValueError, match="META_ARCHITECTURE is RetinaNet, which places no block"):
        build_model(cfg)
