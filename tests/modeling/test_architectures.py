"""Every architecture that has a config with blocks: thin, as its files describe it."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from helpers import (
    assert_equal,
    build,
    detections,
    losses,
    made_up_batch,
    nonlocal_tensors,
    thin_cfg,
    with_blocks,
)
from torch import nn

from nl_detectron.engine import Checkpointer
from nl_detectron.modeling import NonLocalMaskHead, build_model, find_blocks

RPN = {"loss_rpn_cls", "loss_rpn_loc"}
BOXES = {"loss_cls", "loss_box_reg"}
STAGES = {f"{loss}_stage{i}" for loss in BOXES for i in range(3)}
# a config with blocks: its twin without, and the losses of a step
ARCHITECTURES = {
    "COCO-Detection/retinanet_R_50_FPN_nl_1x": BOXES,
    "COCO-Detection/faster_rcnn_R_50_FPN_nl_1x": RPN | BOXES,
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_nl_1x": RPN | BOXES | {"loss_mask"},
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_nl_1x": RPN | BOXES | {"loss_mask"},
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nlhead_1x": RPN | BOXES | {"loss_mask"},
    "Misc/cascade_mask_rcnn_R_50_FPN_nl_1x": RPN | STAGES | {"loss_mask"},
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_nl_1x": RPN
    | BOXES
    | {"loss_mask", "loss_sem_seg"},
}
MASK_HEAD = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nlhead_1x"


def twin(name: str) -> str:
    return name.replace("_nlhead", "").replace("_nl", "")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_twins_weights_load_whole_and_a_step_moves_the_blocks(name, tmp_path):
    baseline = build(thin_cfg(twin(name)), seed=1)
    Checkpointer(baseline, str(tmp_path)).save("twin")
    model = build(thin_cfg(name), seed=2)
    checkpointer = Checkpointer(model)
    checkpointer.load(str(tmp_path / "twin.pth"))
    assert set(checkpointer.fresh) == nonlocal_tensors(model)
    assert list(checkpointer.unused) == []

    batch = made_up_batch()
    found = detections(model, batch)
    assert_equal(found, detections(baseline, batch))
    assert all(value.numel() for value in found.values())  # else nothing was compared

    step = losses(model, batch)
    assert step.keys() == ARCHITECTURES[name]
    assert_equal(step, losses(baseline, batch))
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    sum(step.values()).backward()
    optimizer.step()
    blocks = find_blocks(model)
    assert blocks
    for block in blocks.values():
        assert block.w_z.weight.grad.isfinite().all()
        assert block.w_z.weight.abs().max() > 0


# --- the mask head ---------------------------------------------------------------------------


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
