"""The mask head of Mask R-CNN with non-local blocks between its convs."""

from detectron2.modeling.roi_heads import ROI_MASK_HEAD_REGISTRY, MaskRCNNConvUpsampleHead

from .heads import NonLocalHead


@ROI_MASK_HEAD_REGISTRY.register()
class NonLocalMaskHead(NonLocalHead, MaskRCNNConvUpsampleHead):
    """Detectron2's conv and upsampling mask head with blocks.

    Arguments and errors are those of :class:`NonLocalHead`.
    """

    section = "MASK_HEAD"
    child = "mask_fcn{}"  # the ReLU is part of it
    layers_with_blocks = slice(-1)  # the last of conv_dims is the upsampling
