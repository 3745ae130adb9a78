"""Every architecture that has a config with blocks: thin, as its files describe it."""

import torch
from fast_part import first_cases
from helpers import (
    assert_equal,
    build,
    detections,
    losses,
    make_batch,
    nonlocal_tensors,
    thin_cfg,
)

from nl_detectron.engine import Checkpointer
from nl_detectron.modeling import find_blocks

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


def twin(name: str) -> str:
    return name.replace("_nlhead", "").replace("_nl", "")


@first_cases(1, "name", ARCHITECTURES)
def test_a_twins_weights_load_whole_and_a_step_moves_the_blocks(name, tmp_path):
    baseline = build(thin_cfg(twin(name)), seed=1)
    Checkpointer(baseline, str(tmp_path)).save("twin")
    model = build(thin_cfg(name), seed=2)
    checkpointer = Checkpointer(model)
    checkpointer.load(str(tmp_path / "twin.pth"))
    assert set(checkpointer.fresh) == nonlocal_tensors(model)
    assert list(checkpointer.unused) == []

    batch = make_batch()
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
