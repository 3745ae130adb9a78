"""The keypoint head of Mask R-CNN with non-local blocks between its convs (Table 6)."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_KEYPOINT_HEAD_REGISTRY, KRCNNConvDeconvUpsampleHead

from ..config import block_options
from .placement import add_head_blocks


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class NonLocalKeypointHead(KRCNNConvDeconvUpsampleHead):
    """Detectron2's conv and deconv keypoint head with a block after each chosen conv's ReLU.

    Args:
        input_shape: of the RoI features.
        num_keypoints, conv_dims: as in Detectron2's head.
        after: numbers of convs, from 1; [2, 4, 6, 8] is Table 6's head.
        block: ``make_block``'s keyword arguments.
        kwargs: Detectron2's ``loss_weight`` and ``loss_normalizer``.

    Raises:
        ValueError: no conv, a conv that does not exist, or one named twice.
    """

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        num_keypoints: int,
        conv_dims: Sequence[int],
        after: Sequence[int],
        block: dict[str, Any],
        **kwargs,
    ):
        super().__init__(input_shape, num_keypoints=num_keypoints, conv_dims=conv_dims, **kwargs)
        add_head_blocks(
            self,
            after,
            channels=conv_dims,
            child="conv_fcn_relu{}",
            key="MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER",
            where="keypoint head",
            **block,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "after": cfg.MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER,
            "block": block_options(cfg),
        }
