"""Thin models for the explorer."""

import torch
from helpers import randomise

from nl_detectron.engine import load_config
from nl_detectron.explorer.models import Explorer, load_explorer_model
from nl_detectron.modeling import build_model, find_blocks

CONFIG, KEYPOINTS = (f"configs/Demo/relay_{kind}_rcnn_nl.yaml" for kind in ("mask", "keypoint"))
BASELINE = "configs/Demo/relay_mask_rcnn.yaml"
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", "64"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
]
IN_HEAD = [
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.NONLOCAL.BACKBONE.AFTER", "[]"),
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[1]", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
]


def thin_model(form, config=CONFIG, words=()):
    words = [*THIN, *words, "MODEL.NONLOCAL.PAIRWISE", form]
    torch.manual_seed(0)
    model = build_model(load_config(config, words)).eval()
    for block in find_blocks(model).values():
        randomise(block, std=0.2)
        torch.nn.init.zeros_(block.w_z.weight)  # so that all forms find the same
        torch.nn.init.zeros_(block.w_z.bias)
    return model


def make_explorer(*words, count=1):
    return Explorer([load_explorer_model(CONFIG, [*THIN, *words]) for _ in range(count)])
