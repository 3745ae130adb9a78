from detectron2.config import LazyCall as L

from nl_detectron.config import default_block
from nl_detectron.modeling import nonlocal_backbone

from .relay_mask_rcnn import dataloader, lr_multiplier, model, optimizer, train

model.backbone = L(nonlocal_backbone)(
    backbone=model.backbone, after=["res4.-2"], block=default_block()
)
