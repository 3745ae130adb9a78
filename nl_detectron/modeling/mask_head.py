"""The mask head of Mask R-CNN with non-local blocks between its convs."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead

from ..config import block_options
from .placement import add_head_blocks


@ROI_MASK_HEAD_REGISTRY.register()
class NonLocalMaskHead(MaskRCNNConvUpsampleHead):
    """Detectron2's conv and upsampling mask head with a block after each chosen conv's ReLU.

    Args:
        input_shape: of the RoI features.
        num_classes, conv_norm: as in Detectron2's head.
        conv_dims: channels of each conv and, last, of the upsampling, after which no block comes.
        after: numbers of convs, from 1.
        block: ``make_block``'s keyword arguments.
        kwargs: Detectron2's ``loss_weight`` and ``vis_period``.

    Raises:
        ValueError: no conv, a conv that does not exist, or one named twice.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_classes: int,
        conv_dims: Sequence[int],
        conv_norm: str = "",
        after: Sequence[int],
        block: dict[str, Any],
        **kwargs,
    ):
        super().__init__(
            input_shape,
            num_classes=num_classes,
            conv_dims=conv_dims,
            conv_norm=conv_norm,
            **kwargs,
        )
        add_head_blocks(
            self,
            after,
            channels=conv_dims[:-1],
            child="mask_fcn{}",  # its ReLU is part of it
            key="MODEL.NONLOCAL.MASK_HEAD.AFTER",
            where="mask head",
            **block,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "after": cfg.MODEL.NONLOCAL.MASK_HEAD.AFTER,
            "block": block_options(cfg),
        }
