"""Parts of a detector with blocks in them, and all their gradients, in every memory layout.

The reference is the part itself on contiguous tensors, with each block replaced by its formula.
"""

import copy
from itertools import product

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from formula import block_by_formula
from helpers import randomise
from layouts import LAYOUTS, channels_last, contiguous, expanded
from torch import nn

from nl_detectron.config import default_block
from nl_detectron.layers import NORMS, PAIRWISE, NonLocalBlock
from nl_detectron.modeling import NonLocalKeypointHead, NonLocalMaskHead
from nl_detectron.modeling.placement import insert_after, make_block

FORMS = tuple(PAIRWISE)
CHANNELS = 64  # two in each of GN's 32 groups


def options(form, norm):
    options = {**default_block(), "pairwise": form, "norm": norm}
    del options["mask_padding"]  # of a backbone, not of a block
    return options


def build_stage(form, norm):
    """Three residual blocks, a non-local one before the last."""
    sizes = {"in_channels": 8, "bottleneck_channels": 8, "out_channels": CHANNELS, "norm": "BN"}
    stage = nn.Sequential(*ResNet.make_stage(BottleneckBlock, 3, **sizes))
    insert_after(stage, "1", "nonlocal1", make_block(CHANNELS, **options(form, norm)))
    return stage, stage


def build_mask_head(form, norm):
    dims = [CHANNELS] * 3
    shape = ShapeSpec(channels=8, width=4, height=4)
    head = NonLocalMaskHead(
        shape, num_classes=2, conv_dims=dims, after=[1, 2], block=options(form, norm)
    )
    return head, head.layers


def build_keypoint_head(form, norm):
    dims = [CHANNELS] * 2
    shape = ShapeSpec(channels=8, width=4, height=4)
    head = NonLocalKeypointHead(
        shape, num_keypoints=3, conv_dims=dims, after=[1, 2], block=options(form, norm)
    )
    return head, head.layers


def run(module, function, x, layout_of_dy):
    x = x.detach().requires_grad_()
    parameters = dict(module.named_parameters())
    y = function(x)
    dy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    grads = torch.autograd.grad(y, [x, *parameters.values()], layout_of_dy(dy))
    return {"y": y.detach(), **dict(zip(("x", *parameters), grads, strict=True))}


BUILDS = (build_stage, build_mask_head, build_keypoint_head)
CASES = [
    (build, norm)
    for build, norm in product(BUILDS, NORMS)
    if norm != "naiveSyncBN" or build is build_stage  # heads refuse it
]


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("build, norm", CASES)
def test_gradients_are_those_of_the_formula_in_every_layout(build, form, norm, monkeypatch):
    module, layers = build(form, norm)
    module.double()
    for block in module.modules():
        if isinstance(block, NonLocalBlock):
            randomise(block, std=0.1)
    x = torch.randn(2, 8, 4, 6, dtype=torch.float64)

    state = copy.deepcopy(module.state_dict())
    for training, incoming in product((True, False), (contiguous, channels_last, expanded)):
        value_of_dy = expanded if incoming is expanded else contiguous
        module.train(training)
        with monkeypatch.context() as patch:
            patch.setattr(NonLocalBlock, "forward", block_by_formula)
            expected = run(module, layers, x, value_of_dy)
        module.load_state_dict(state)
        rounding = 1e-12 * max(value.abs().max() for value in expected.values())
        for layout in LAYOUTS:
            found = run(module, layers, layout(x), incoming)
            module.load_state_dict(state)
            for name, value in expected.items():
                close = torch.allclose(found[name], value, rtol=1e-8, atol=rounding)
                assert close, f"{name}, {layout.__name__} x, {incoming.__name__} gradient"
