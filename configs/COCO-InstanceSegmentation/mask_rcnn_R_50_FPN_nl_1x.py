# Table 5: one non-local block right before the last residual block of res4.
from detectron2.config import LazyCall as L

from nl_detectron.config import default_block
from nl_detectron.modeling import nonlocal_backbone

from .mask_rcnn_R_50_FPN_1x import dataloader, lr_multiplier, model, optimizer, train

model.backbone = L(nonlocal_backbone)(
    backbone=model.backbone, after=["res4.-2"], block=default_block()
)
