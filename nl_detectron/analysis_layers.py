"""Runs every layer of a model, whatever it would find, to count what they compute and keep."""

from detectron2.modeling import GeneralizedRCNN, PanopticFPN, RetinaNet
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from torch import Tensor, nn

from .errors import UsageError
from .modeling import VideoClassifier


def check_kind(model: nn.Module) -> None:
    """Raises UsageError for a model that :func:`run_layers` does not know."""
    if type(model) in (RetinaNet, VideoClassifier):
        return
    parts = [type(getattr(model, p, None)) for p in ("proposal_generator", "roi_heads")]
    known = [(RPN, heads) for heads in (StandardROIHeads, CascadeROIHeads, Res5ROIHeads)]
    if type(model) not in (GeneralizedRCNN, PanopticFPN) or tuple(parts) not in known:
        raise UsageError(
            "the analysis knows GeneralizedRCNN and PanopticFPN with RPN and StandardROIHeads, "
            "CascadeROIHeads or Res5ROIHeads, RetinaNet and VideoClassifier, "
            f"got {type(model).__name__} with {' and '.join(p.__name__ for p in parts)}"
        )


def run_layers(
    model: GeneralizedRCNN | RetinaNet | VideoClassifier, image: Tensor, boxes: int, objects: int
) -> None:
    """Run every layer of a model.

    Args:
        image: an image (1,3,H,W), or a clip (1,3,T,H,W).
        boxes: number of RoIs of the box head.
        objects: number of RoIs of the mask and keypoint heads.

    RoIAlign's output is replaced by empty tensors: it has no multiply-adds and saves boxes only.
    """
    if isinstance(model, VideoClassifier):
        run = model.pooled_logits if model.training else model.scores
        run(image)
        return
    features = model.backbone(image)
    if isinstance(model, RetinaNet):
        model.head([features[f] for f in model.head_in_features])
        return
    if isinstance(model, PanopticFPN):
        model.sem_seg_head.layers(features)
    rpn, heads = model.proposal_generator, model.roi_heads
    rpn.rpn_head([features[f] for f in rpn.in_features])

    def pooled(pooler: ROIPooler, names: list[str], count: int) -> Tensor:
        feature = features[names[0]]
        rois = feature.new_empty(count, feature.shape[1], *pooler.output_size)
        return rois.requires_grad_(feature.requires_grad)

    if isinstance(heads, Res5ROIHeads):
        x = heads.res5(pooled(heads.pooler, heads.in_features, boxes))
        heads.box_predictor(x.mean(dim=[2, 3]))
        if heads.mask_on and model.training:  # the same features
            heads.mask_head.layers(x[:objects])
        elif heads.mask_on:  # pooled again, at the detections
            heads.mask_head.layers(heads.res5(pooled(heads.pooler, heads.in_features, objects)))
        return
    box_heads, box_predictors = heads.box_head, heads.box_predictor
    if not isinstance(heads, CascadeROIHeads):  # one stage
        box_heads, box_predictors = [box_heads], [box_predictors]
    for box_head, box_predictor in zip(box_heads, box_predictors, strict=True):
        box_predictor(box_head(pooled(heads.box_pooler, heads.box_in_features, boxes)))
    if heads.mask_on:
        heads.mask_head.layers(pooled(heads.mask_pooler, heads.mask_in_features, objects))
    if heads.keypoint_on:
        rois = pooled(heads.keypoint_pooler, heads.keypoint_in_features, objects)
        heads.keypoint_head.layers(rois)
