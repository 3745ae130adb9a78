from detectron2.model_zoo import get_config

from ..common.run import evaluator, lr_multiplier, optimizer, train

dataloader = get_config("common/data/coco_keypoint.py").dataloader
dataloader.evaluator = evaluator("bbox", "keypoints")
model = get_config("common/models/keypoint_rcnn_fpn.py").model
model.backbone.bottom_up.freeze_at = 2
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
