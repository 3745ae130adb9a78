# As in Table 6 (R101): four non-local blocks in the keypoint head and one in the backbone.
from nl_detectron.modeling import NonLocalKeypointHead

from .keypoint_rcnn_R_50_FPN_nl_1x import dataloader, lr_multiplier, model, optimizer, train

model.roi_heads.keypoint_head.update(
    _target_=NonLocalKeypointHead,
    after=[2, 4, 6, 8],
    # what is not said of the head's blocks is as in the backbone's
    block={key: f"${{....backbone.block.{key}}}" for key in model.backbone.block},
)
