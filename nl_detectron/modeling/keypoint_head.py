"""The keypoint head of Mask R-CNN with non-local blocks between its convs (Table 6)."""

from detectron2.modeling.roi_heads import ROI_KEYPOINT_HEAD_REGISTRY, KRCNNConvDeconvUpsampleHead

from .heads import NonLocalHead


@ROI_KEYPOINT_HEAD_REGISTRY.register()
class NonLocalKeypointHead(NonLocalHead, KRCNNConvDeconvUpsampleHead):
    """Detectron2's conv and deconv keypoint head with blocks; ``after=[2, 4, 6, 8]`` is Table 6's.

    Arguments and errors are those of :class:`NonLocalHead`.
    """

    section = "KEYPOINT_HEAD"
    child = "conv_fcn_relu{}"
