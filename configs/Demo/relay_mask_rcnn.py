# A thin Mask R-CNN that learns the relay task from scratch in minutes on a CPU. Base-Relay.yaml
# explains the settings.
from detectron2.config import LazyCall as L
from detectron2.model_zoo import get_config
from detectron2.modeling.backbone import ResNet
from detectron2.modeling.backbone.resnet import BottleneckBlock
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from torch.optim import AdamW

from nl_detectron.engine.lazy import clipped
from nl_detectron.engine.learning_rates import scale_block_rate

from ..common.run import evaluator, train

model = get_config("common/models/mask_rcnn_fpn.py").model
model.update(pixel_mean=[120.0] * 3, pixel_std=[50.0] * 3, input_format="RGB")
model.backbone.update(out_channels=64, norm="BN")
model.backbone.bottom_up.stem.update(out_channels=32, norm="BN")
model.backbone.bottom_up.stages = [
    L(ResNet.make_stage)(
        block_class=BottleneckBlock,
        num_blocks=blocks,
        stride_per_block=[stride] + [1] * (blocks - 1),
        in_channels=entering,
        bottleneck_channels=width,
        out_channels=4 * width,
        stride_in_1x1=True,
        norm="BN",
    )
    for blocks, stride, entering, width in (
        (3, 1, 32, 16),
        (4, 2, 64, 32),
        (6, 2, 128, 64),
        (3, 2, 256, 128),
    )
]
model.backbone.bottom_up.out_features = ["res3", "res4", "res5"]
model.proposal_generator.update(
    in_features=["p3", "p4", "p5", "p6"],
    batch_size_per_image=32,
    pre_nms_topk=(200, 200),
    post_nms_topk=(100, 50),
)
model.proposal_generator.head.in_channels = 64
model.proposal_generator.anchor_generator.update(
    sizes=[[32], [64], [128], [256]], strides=[8, 16, 32, 64]
)
model.roi_heads.update(num_classes=3, batch_size_per_image=4, positive_fraction=0.75)
for task in ("box", "mask"):
    model.roi_heads[f"{task}_in_features"] = ["p3", "p4", "p5"]
    model.roi_heads[f"{task}_pooler"].scales = (1 / 8, 1 / 16, 1 / 32)
model.roi_heads.box_head.update(conv_dims=[64], fc_dims=[], conv_norm="BN")
model.roi_heads.box_head.input_shape.channels = 64
model.roi_heads.box_predictor.update(
    input_shape=model.roi_heads.box_head.input_shape, cls_agnostic_bbox_reg=True
)
model.roi_heads.mask_head.update(num_classes=1, conv_dims=[64] * 3)
model.roi_heads.mask_head.input_shape.channels = 64

dataloader = get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = "relay_train"
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.augmentations[0].short_edge_length = (96,)
dataloader.train.update(total_batch_size=8, num_workers=0)
dataloader.test.dataset.names = "relay_val"
dataloader.test.mapper.augmentations[0].short_edge_length = 96
dataloader.test.num_workers = 0
dataloader.evaluator = evaluator("bbox", "segm")

optimizer = get_config("common/optim.py").AdamW
optimizer.update(_target_=clipped, optimizer=AdamW, norm=5.0)
optimizer.update(lr=0.0012, weight_decay=0.0001, fused=True)
optimizer.params.lr_factor_func = L(scale_block_rate)(pairwise_factor=0.1)
lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_method="linear",
    warmup_factor=0.001,
    warmup_length=150 / 700,
)
train.update(max_iter=700, seed=1)
