# One non-local block in the backbone (Sec. 6); the head stays as it is.
from detectron2.config import LazyCall as L

from nl_detectron.config import default_block
from nl_detectron.modeling import nonlocal_backbone

from .keypoint_rcnn_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

model.backbone = L(nonlocal_backbone)(
    backbone=model.backbone, after=["res4.-2"], block=default_block()
)
