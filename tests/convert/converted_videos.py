"""Models of converted video weights, and clips that they are compared on."""

import torch
from detectron2.config import CfgNode, get_cfg

from nl_detectron import add_nonlocal_config
from nl_detectron.modeling import build_model

SIDE, WINDOW = 96, 2  # clips give maps of 3x3; training's crops of 64 pixels give maps of 2x2


def config_of(found_config) -> CfgNode:
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_other_cfg(CfgNode(found_config))
    cfg.INPUT.VIDEO.CROP_SIZE = 32 * WINDOW
    return cfg


def our_model(found):
    """Our model with converted tensors, in evaluation."""
    model = build_model(config_of(found.config))
    model.load_state_dict(found.model)
    return model.eval()


def clips_of(frames, side=SIDE):
    """Two clips of coarse noise, so that their averages differ."""
    cells = torch.randint(0, 256, (2, 3, frames, 8, 8), dtype=torch.uint8)
    return cells.repeat_interleave(side // 8, dim=3).repeat_interleave(side // 8, dim=4)


def check_equal(ours, theirs):
    """Probabilities to 1e-4, of which none is near 1 so that they tell something."""
    assert theirs.max() < 0.95 and (theirs[0] - theirs[1]).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
