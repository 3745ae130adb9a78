"""The keypoint head of Mask R-CNN with non-local blocks between its convs (Table 6)."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads import ROI_KEYPOINT_HEAD_REGISTRY, KRCNNConvDeconvUpsampleHead

from ..config import block_options
from .placement import insert_after, log_blocks, make_block, own_random_numbers

KEY = "MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER"


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
        # Its init loop runs over every parameter, so blocks come after it: W_z must stay zero.
        super().__init__(input_shape, num_keypoints=num_keypoints, conv_dims=conv_dims, **kwargs)
        _check_places(after, len(conv_dims))
        blocks = {}
        with own_random_numbers():
            for conv in after:
                blocks[f"nonlocal{conv}"] = make_block(conv_dims[conv - 1], **block)
                insert_after(
                    self, f"conv_fcn_relu{conv}", f"nonlocal{conv}", blocks[f"nonlocal{conv}"]
                )
        log_blocks("keypoint head", blocks)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "after": cfg.MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER,
            "block": block_options(cfg),
        }


def _check_places(after: Sequence[int], convs: int) -> None:
    if not after:
        raise ValueError(
            f"{KEY} is empty, so this non-local head would be a baseline. Name convs (1 to "
            f"{convs}; [2, 4, 6, 8] is the paper's), or use KRCNNConvDeconvUpsampleHead"
        )
    for conv in after:
        if type(conv) is not int or conv not in range(1, convs + 1):
            raise ValueError(f"{KEY}: there is no conv {conv!r}; this head has 1 to {convs}")
    if len(set(after)) < len(after):
        raise ValueError(f"{KEY}: a conv is named more than once in {list(after)}")
