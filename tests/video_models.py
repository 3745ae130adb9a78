"""Thin video models and clips for the tests."""

import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from nl_detectron import add_nonlocal_config
from nl_detectron.modeling import build_model

WIDTH = 8  # of res2's bottleneck; a real ResNet has 64


def tiny_video_cfg(arch: str = "c2d", depth: int = 26, **video) -> CfgNode:
    """A thin model on the CPU, of 5 classes.

    Args:
        arch: MODEL.VIDEO.ARCH.
        depth: of the ResNet.
        video: other keys of MODEL.VIDEO.
    """
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.META_ARCHITECTURE = "VideoClassifier"
    cfg.MODEL.BACKBONE.NAME = "build_nonlocal_video_resnet_backbone"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [114.75] * 3, [57.375] * 3
    resnet = cfg.MODEL.RESNETS
    resnet.DEPTH, resnet.NORM, resnet.OUT_FEATURES = depth, "BN", ["res5"]
    resnet.STRIDE_IN_1X1 = False
    resnet.WIDTH_PER_GROUP = resnet.STEM_OUT_CHANNELS = WIDTH
    resnet.RES2_OUT_CHANNELS = 4 * WIDTH
    cfg.MODEL.VIDEO.ARCH, cfg.MODEL.VIDEO.NUM_CLASSES = arch, 5
    cfg.MODEL.VIDEO.update(video)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.VIDEO.FRAMES, cfg.INPUT.VIDEO.CROP_SIZE = 8, 64
    return cfg


def build_video_model(cfg: CfgNode, seed: int = 1) -> nn.Module:
    """A model with random weights, norms and statistics."""
    torch.manual_seed(seed)
    return randomise_batch_norms(build_model(cfg))


def randomise_batch_norms(model: nn.Module) -> nn.Module:
    """Give batch norms random scales, shifts and statistics."""
    for module in model.modules():
        if hasattr(module, "running_var"):
            for name, low, high in (
                *(("weight", 0.5, 1.0), ("bias", -0.1, 0.1)),
                *(("running_mean", -0.1, 0.1), ("running_var", 0.5, 2.0)),
            ):
                nn.init.uniform_(getattr(module, name), low, high)
    return model


def make_clips(count: int = 2, frames: int = 8, side: int = 64) -> list[dict]:
    """Training samples of noise, as the mapper makes them."""
    clips = torch.randint(0, 256, (count, 3, frames, side, side), dtype=torch.uint8)
    return [{"clip": clip, "label": n % 5} for n, clip in enumerate(clips)]
