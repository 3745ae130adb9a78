"""Builds a C2D or I3D ResNet from a config, with non-local blocks after named residual blocks."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, ResNet
from detectron2.modeling.backbone import BasicStem

from ...config import block_options
from ...layers import AXES, NonLocalBlock, VideoNonLocalBlock
from ..backbone import insert_blocks
from ..placement import log_blocks, make_block
from .resnet import (
    ARCHITECTURES,
    DEPTHS,
    POOLS,
    VideoBottleneckBlock,
    VideoResNet,
    VideoStem,
    inflated_blocks,
)

STAGES = (2, 3, 4, 5)


@BACKBONE_REGISTRY.register()
def build_nonlocal_video_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> VideoResNet:
    """Build the ResNet of MODEL.VIDEO, with blocks at MODEL.NONLOCAL.BACKBONE.AFTER.

    An empty AFTER is the baseline. The ResNet's own keys are Detectron2's, MODEL.RESNETS.

    Args:
        cfg: the config.
        input_shape: with the number of channels of a frame.

    Raises:
        ValueError: a value is not one of its choices, there is no such ResNet for video, or an
            error of the blocks.
    """
    video = cfg.MODEL.VIDEO
    _check_choice("MODEL.VIDEO.ARCH", video.ARCH, ARCHITECTURES)
    _check_choice("MODEL.VIDEO.STRIDES", video.STRIDES, {strides for strides, _ in POOLS})
    _check_choice("MODEL.VIDEO.POOL1", video.POOL1, {pool1 for _, pool1 in POOLS})
    _check_resnet(cfg)
    backbone = _build_resnet(cfg, input_shape)
    if cfg.MODEL.NONLOCAL.BACKBONE.AFTER:
        _add_blocks(cfg, backbone)
    return backbone


def _build_resnet(cfg: CfgNode, input_shape: ShapeSpec) -> VideoResNet:
    """The ResNet without blocks, with the options of Detectron2's ``build_resnet_backbone``."""
    resnet = cfg.MODEL.RESNETS
    stem_frames, *block_frames = ARCHITECTURES[cfg.MODEL.VIDEO.ARCH]
    pools = POOLS[cfg.MODEL.VIDEO.STRIDES, cfg.MODEL.VIDEO.POOL1]
    in_channels = resnet.STEM_OUT_CHANNELS
    image_stem = BasicStem(input_shape.channels or 0, in_channels, resnet.NORM)
    stem = VideoStem(image_stem, stem_frames, pools)
    stages = []
    for stage, count in zip(STAGES, DEPTHS[resnet.DEPTH], strict=True):
        factor = 2 ** (stage - 2)
        dilation = resnet.RES5_DILATION if stage == 5 else 1
        stride = 1 if stage == 2 or dilation == 2 else 2
        blocks = ResNet.make_stage(
            VideoBottleneckBlock,
            count,
            in_channels=in_channels,
            out_channels=resnet.RES2_OUT_CHANNELS * factor,
            bottleneck_channels=resnet.NUM_GROUPS * resnet.WIDTH_PER_GROUP * factor,
            stride_per_block=[stride] + [1] * (count - 1),
            frames_per_block=[
                tuple(block_frames) if inflated else (1, 1)
                for inflated in inflated_blocks(stage, count)
            ],
            norm=resnet.NORM,
            stride_in_1x1=resnet.STRIDE_IN_1X1,
            num_groups=resnet.NUM_GROUPS,
            dilation=dilation,
        )
        in_channels = resnet.RES2_OUT_CHANNELS * factor
        stages.append(blocks)
    return VideoResNet(
        stem,
        stages,
        pools,
        out_features=resnet.OUT_FEATURES,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
    )


def _add_blocks(cfg: CfgNode, backbone: VideoResNet) -> None:
    """Insert the blocks of MODEL.NONLOCAL, which see a whole clip or parts of it."""
    node = cfg.MODEL.NONLOCAL
    _check_choice("MODEL.NONLOCAL.AXES", node.AXES, AXES)
    options = block_options(cfg)
    if options.pop("mask_padding"):
        raise ValueError(
            "MODEL.NONLOCAL.MASK_PADDING: the clips of a batch have one size, so no position is "
            "padding; switch it off"
        )
    frames = list(node.FRAMES_PER_GROUP)
    if len(frames) != len(STAGES) or any(type(n) is not int or n < 0 for n in frames):
        raise ValueError(
            "MODEL.NONLOCAL.FRAMES_PER_GROUP: expected a number of frames for each of res2 to "
            f"res5, 0 for all, got {frames}"
        )
    if node.AXES != "spacetime" and any(frames):
        raise ValueError(
            f"MODEL.NONLOCAL.FRAMES_PER_GROUP is {frames}, which is for the axes spacetime, and "
            f"MODEL.NONLOCAL.AXES is {node.AXES}; set it to [0, 0, 0, 0]"
        )
    by_stage = dict(zip((f"res{stage}" for stage in STAGES), frames, strict=True))

    def make(stage: str, channels: int) -> NonLocalBlock:
        return make_block(
            channels,
            **options,
            block_class=VideoNonLocalBlock,
            axes=node.AXES,
            frames_per_group=by_stage[stage],
        )

    log_blocks("backbone", insert_blocks(backbone, node.BACKBONE.AFTER, make))


def _check_resnet(cfg: CfgNode) -> None:
    resnet = cfg.MODEL.RESNETS
    _check_choice("MODEL.RESNETS.DEPTH", resnet.DEPTH, DEPTHS)
    _check_choice("MODEL.RESNETS.RES5_DILATION", resnet.RES5_DILATION, (1, 2))
    if any(resnet.DEFORM_ON_PER_STAGE):
        raise ValueError(
            "MODEL.RESNETS.DEFORM_ON_PER_STAGE: a ResNet for video has no deformable convs; set "
            "it to [False, False, False, False]"
        )


def _check_choice(key: str, value: object, choices) -> None:
    if value not in choices:
        names = ", ".join(map(str, sorted(choices)))
        raise ValueError(f"{key}: expected one of {names}, got {value!r}")
