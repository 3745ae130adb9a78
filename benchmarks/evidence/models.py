"""Backbones for the evidence only: the control, and blocks with He's initial values."""

import math

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN
from detectron2.modeling.backbone.fpn import build_resnet_fpn_backbone
from detectron2.modeling.backbone.resnet import BottleneckBlock
from torch import nn

from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import build_nonlocal_resnet_fpn_backbone, find_blocks
from nl_detectron.modeling.placement import insert_after, isolated_rng


@BACKBONE_REGISTRY.register()
def build_control_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The baseline's backbone with a further residual block where the paper has its block."""
    fpn = build_resnet_fpn_backbone(cfg, input_shape)
    stage = fpn.bottom_up.res4
    last_but_one = str(len(stage) - 2)
    with isolated_rng():
        block = residual_block(stage.get_submodule(last_but_one).out_channels)
    insert_after(stage, last_but_one, f"residual{last_but_one}", block)
    return fpn


def residual_block(channels: int) -> BottleneckBlock:
    """A bottleneck block with about as many parameters as a non-local block.

    It starts as the identity: its input comes from a ReLU, so its own last ReLU changes nothing.
    """
    wanted = count_parameters(NonLocalBlock(channels))
    inner = round((math.sqrt(channels**2 + 9 * wanted) - channels) / 9)  # 2 C M + 9 M^2 weights
    block = BottleneckBlock(channels, channels, bottleneck_channels=inner, norm="BN")
    nn.init.zeros_(block.conv3.norm.weight)
    return block


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@BACKBONE_REGISTRY.register()
def build_he_nonlocal_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """The non-local backbone with He's initial values of theta, phi and g (Sec. 4.1), not 0.01."""
    fpn = build_nonlocal_resnet_fpn_backbone(cfg, input_shape)
    with isolated_rng():
        for block in find_blocks(fpn).values():
            for conv in (block.theta, block.phi, block.g):
                nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return fpn
