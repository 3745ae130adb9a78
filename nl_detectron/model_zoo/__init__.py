"""Configs and checkpoints of this package by name, like ``detectron2.model_zoo``.

>>> from nl_detectron import model_zoo
>>> model = model_zoo.get("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml")
"""

from .zoo import fetch_checkpoint, get, get_checkpoint_url, get_config, get_config_file

__all__ = ["fetch_checkpoint", "get", "get_checkpoint_url", "get_config", "get_config_file"]
