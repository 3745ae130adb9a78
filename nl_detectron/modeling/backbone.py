"""Backbones: Detectron2's own ResNet and FPN, with non-local blocks after named residual blocks."""

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, FPN, ResNet, build_resnet_backbone
from detectron2.modeling.backbone.fpn import (
    build_resnet_fpn_backbone,
    build_retinanet_resnet_fpn_backbone,
)

from ..config import block_options
from ..layers import NonLocalBlock
from .image_sizes import use_image_sizes
from .placement import insert_after, isolated_rng, log_blocks, make_block

AnyBackbone = TypeVar("AnyBackbone", FPN, ResNet)
KEY = "MODEL.NONLOCAL.BACKBONE.AFTER"


@BACKBONE_REGISTRY.register()
def build_nonlocal_resnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> ResNet:
    """Detectron2's ``build_resnet_backbone`` with blocks at MODEL.NONLOCAL.BACKBONE.AFTER."""
    return _with_blocks(cfg, build_resnet_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_nonlocal_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's ``build_resnet_fpn_backbone`` with blocks at MODEL.NONLOCAL.BACKBONE.AFTER."""
    return _with_blocks(cfg, build_resnet_fpn_backbone(cfg, input_shape))


@BACKBONE_REGISTRY.register()
def build_nonlocal_retinanet_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Detectron2's ``build_retinanet_resnet_fpn_backbone``, with p6 and p7, with blocks at
    MODEL.NONLOCAL.BACKBONE.AFTER."""
    return _with_blocks(cfg, build_retinanet_resnet_fpn_backbone(cfg, input_shape))


def _with_blocks(cfg: CfgNode, backbone: AnyBackbone) -> AnyBackbone:
    after = cfg.MODEL.NONLOCAL.BACKBONE.AFTER
    return nonlocal_backbone(backbone, after=after, block=block_options(cfg))


def nonlocal_backbone(
    backbone: AnyBackbone, *, after: Sequence[str], block: dict[str, Any]
) -> AnyBackbone:
    """Add blocks to the ResNet of a backbone, in place, and return the backbone.

    This is the function that a LazyConfig calls.

    Args:
        backbone: a ResNet, or an FPN over one.
        after: places, as in :func:`add_backbone_blocks`.
        block: keyword arguments of ``make_block``, and ``mask_padding``.

    Raises:
        ValueError: as in :func:`add_backbone_blocks`.
    """
    resnet = cast(ResNet, getattr(backbone, "bottom_up", backbone))
    add_backbone_blocks(resnet, after, **block)
    return backbone


def add_backbone_blocks(
    resnet: ResNet, after: Sequence[str], *, mask_padding: bool = False, **options
) -> None:
    """Add a block after each named residual block of a ResNet, in place.

    The block after ``res4.4`` is called ``res4.nonlocal4``. Blocks are added after FREEZE_AT has
    been applied, so a block in a frozen stage stays trainable.

    Args:
        resnet: a ResNet of Detectron2, of any depth.
        after: places such as ``"res4.-2"``, ``"res3.*"``, ``"res3.1"``.
        mask_padding: leave the padding of a batch's images out of the blocks; the model must
            attach their sizes (:func:`attach_image_sizes`).
        options: keyword arguments of ``make_block``.

    Raises:
        ValueError: there is no place, a place does not exist, or a place is named twice.
    """
    blocks = insert_blocks(resnet, after, lambda _, channels: make_block(channels, **options))
    if mask_padding:
        use_image_sizes(resnet, list(blocks.values()))
    log_blocks("backbone", blocks)


def insert_blocks(
    resnet: ResNet, after: Sequence[str], make: Callable[[str, int], NonLocalBlock]
) -> dict[str, NonLocalBlock]:
    """Insert a block after each named residual block of a ResNet, in place.

    Args:
        resnet, after: as in :func:`add_backbone_blocks`.
        make: makes a block for a stage such as ``"res4"`` and the number of its channels.

    Returns:
        The blocks by name, such as ``"res4.nonlocal4"``.

    Raises:
        ValueError: as in :func:`add_backbone_blocks`.
    """
    lengths = {
        name: len(stage) for name, stage in zip(resnet.stage_names, resnet.stages, strict=True)
    }
    blocks = {}
    with isolated_rng():
        for stage, index in parse_places(after, lengths):
            sequential = getattr(resnet, stage)
            block = make(stage, sequential.get_submodule(str(index)).out_channels)
            insert_after(sequential, str(index), f"nonlocal{index}", block)
            blocks[f"{stage}.nonlocal{index}"] = block
    return blocks


def parse_places(after: Sequence[str], lengths: dict[str, int]) -> list[tuple[str, int]]:
    """Parse places into pairs of stage and index, in order.

    Args:
        after: places such as ``["res3.*", "res4.-2"]``.
        lengths: number of residual blocks by stage, such as ``{"res3": 4, "res4": 6}``.

    Raises:
        ValueError: as in :func:`add_backbone_blocks`.
    """
    exist = ", ".join(f"{stage}.0 to {stage}.{n - 1}" for stage, n in lengths.items())
    if not after:
        raise ValueError(
            f"{KEY} is empty, so this non-local backbone would be a baseline. Name places "
            f"({exist}; res4.-2 is the paper's), or use Detectron2's own backbone"
        )
    places = []
    for place in after:
        match = re.fullmatch(r"(res\d)\.(\*|-?\d+)", str(place))
        stage, index = match.groups() if match else ("", "")
        n = lengths.get(stage, 0)
        found = range(n) if index == "*" else [int(index or 0)]
        if not n or not all(-n <= i < n for i in found):
            raise ValueError(
                f"{KEY}: there is no {place!r}; this backbone has {exist} (negative numbers count "
                f"from the end, {next(iter(lengths))}.* means all; OUT_FEATURES decides which "
                "stages are built)"
            )
        places += [(stage, i % n) for i in found]
    twice = sorted({f"{stage}.{i}" for stage, i in places if places.count((stage, i)) > 1})
    if twice:
        raise ValueError(f"{KEY}: {list(after)} names {', '.join(twice)} more than once")
    return places
