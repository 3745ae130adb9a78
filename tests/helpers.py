"""Small models and synthetic images for the tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import BitMasks, Boxes, Instances, Keypoints
from detectron2.utils.events import EventStorage
from torch import nn

from nl_detectron import add_nonlocal_config
from nl_detectron.analysis import knows_fake_cuda
from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import build_model, find_blocks

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
WIDTH = 8  # of res2's bottleneck; a real ResNet has 64
needs_fake_cuda = pytest.mark.skipif(not knows_fake_cuda(), reason="needs torch 2.14 or a GPU")


def load_tool(name: str) -> ModuleType:
    """A program in tools/, as a module; tools/ is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def tiny_cfg(arch: str = "FPN", task: str = "mask", depth: int = 50) -> CfgNode:
    """A thin baseline on the CPU.

    Args:
        arch: FPN, C4 (Res5ROIHeads) or DC5.
        task: mask, keypoint or box.
        depth: of the ResNet; 18 and 34 have a fixed width.
    """
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.MODEL.MASK_ON = task == "mask"
    cfg.MODEL.KEYPOINT_ON = task == "keypoint"
    resnet, heads = cfg.MODEL.RESNETS, cfg.MODEL.ROI_HEADS
    resnet.DEPTH = depth
    _make_thin(cfg)
    if arch == "C4":
        cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 4
        cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 4
        return cfg

    heads.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC = 2
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 4
    cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 2
    cfg.MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION = 8
    if arch == "DC5":
        resnet.OUT_FEATURES = cfg.MODEL.RPN.IN_FEATURES = heads.IN_FEATURES = ["res5"]
        resnet.RES5_DILATION = 2
        return cfg

    cfg.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    resnet.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[8], [16], [32], [64], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5", "p6"]
    heads.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    return cfg


def thin_cfg(name: str) -> CfgNode:
    """A thin version of a shipped config, such as ``COCO-Detection/retinanet_R_50_FPN_1x``."""
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.merge_from_file(str(CONFIGS / f"{name}.yaml"))
    _make_thin(cfg)
    return cfg


def _make_thin(cfg: CfgNode) -> None:
    """Few channels, classes and boxes, on the CPU, without weights."""
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    resnet = cfg.MODEL.RESNETS
    resnet.WIDTH_PER_GROUP = WIDTH
    resnet.STEM_OUT_CHANNELS = WIDTH
    resnet.RES2_OUT_CHANNELS = 64 if resnet.DEPTH < 50 else 4 * WIDTH
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.RPN.PRE_NMS_TOPK_TRAIN = cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 50
    cfg.MODEL.RPN.POST_NMS_TOPK_TRAIN = cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 10
    heads, retinanet = cfg.MODEL.ROI_HEADS, cfg.MODEL.RETINANET
    heads.NUM_CLASSES = retinanet.NUM_CLASSES = 3
    heads.BATCH_SIZE_PER_IMAGE = 8
    heads.SCORE_THRESH_TEST = retinanet.SCORE_THRESH_TEST = (
        0.0  # scores of untrained models are low
    )
    retinanet.TOPK_CANDIDATES_TEST = 50
    cfg.TEST.DETECTIONS_PER_IMAGE = 5
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 16
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM = 8
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [8] * 8
    cfg.MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION = 8
    cfg.MODEL.SEM_SEG_HEAD.CONVS_DIM = 32  # GN has as many groups


def with_blocks(cfg: CfgNode, backbone=("res4.-2",), head=(), **keys) -> CfgNode:
    """The same model with blocks; ``keys`` are those of MODEL.NONLOCAL, such as NORM."""
    cfg = cfg.clone()
    cfg.MODEL.NONLOCAL.update(keys)
    if backbone:
        cfg.MODEL.BACKBONE.NAME = cfg.MODEL.BACKBONE.NAME.replace("build_", "build_nonlocal_")
        cfg.MODEL.NONLOCAL.BACKBONE.AFTER = list(backbone)
    if head:
        cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "NonLocalKeypointHead"
        cfg.MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER = list(head)
    return cfg


def build(cfg: CfgNode, seed: int) -> nn.Module:
    """Build a model with random weights and norms."""
    torch.manual_seed(seed)
    return randomise_norms(build_model(cfg))


def randomise_norms(model: nn.Module) -> nn.Module:
    """Give frozen norms random scales below 1. The features of a hundred layers overflow without
    normalisation."""
    for module in model.modules():
        if isinstance(module, FrozenBatchNorm2d):
            module.weight.uniform_(0.2, 0.6)
            module.bias.normal_(std=0.1)
    return model


def assert_equal(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(ours[name], value), name


def nonlocal_tensors(model: nn.Module) -> set[str]:
    """Names of all tensors of the model's non-local blocks."""
    blocks = find_blocks(model)
    return {f"{name}.{k}" for name, block in blocks.items() for k in block.state_dict()}


def randomise(block: NonLocalBlock, std: float = 0.3) -> NonLocalBlock:
    """Give every tensor of a block a random value, so that it is no identity any more."""
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=std)
    for name, buffer in block.named_buffers():
        if name.endswith("running_mean"):
            nn.init.normal_(buffer)
        elif name.endswith("running_var"):
            nn.init.uniform_(buffer, 0.5, 2)
    return block


def z_and_gradients(function, block: nn.Module, x: torch.Tensor, dz: torch.Tensor) -> dict:
    """z, and the gradients of x and of every parameter of a block, by name.

    Args:
        function: computes z of x with the block's parameters, such as the block itself.
    """
    x = x.detach().requires_grad_()
    z = function(x)
    parameters = dict(block.named_parameters())
    grads = torch.autograd.grad(z, [x, *parameters.values()], dz, materialize_grads=True)
    return {"z": z.detach(), **dict(zip(("x", *parameters), grads, strict=True))}


def make_batch(sizes=((64, 64), (64, 96))) -> list[dict]:
    """Images of noise with a box, a mask, keypoints and stuff, as Detectron2's models take them."""
    batch = []
    for height, width in sizes:
        target = Instances((height, width))
        target.gt_boxes = Boxes(torch.tensor([[8.0, 8.0, 40.0, 48.0]]))
        target.gt_classes = torch.zeros(1, dtype=torch.long)
        mask = torch.zeros(1, height, width, dtype=torch.bool)
        mask[:, 8:48, 8:40] = True
        target.gt_masks = BitMasks(mask)
        points = 9 + 28 * torch.rand(1, 17, 2)
        target.gt_keypoints = Keypoints(torch.cat([points, torch.full((1, 17, 1), 2.0)], dim=2))
        image = torch.randint(0, 256, (3, height, width)).float()
        one = {"image": image, "height": height, "width": width, "instances": target}
        batch.append({**one, "sem_seg": 1 - mask[0].long()})  # things are class 0
    return batch


def losses(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Losses of a training step, with fixed random numbers, as proposals are sampled."""
    model.train()
    torch.manual_seed(7)
    with EventStorage():
        return model(batch)


def detections(model: nn.Module, batch: list[dict]) -> dict[str, torch.Tensor]:
    """Boxes, scores, classes, masks, keypoints and stuff by image and name."""
    model.eval()
    with torch.no_grad():
        outputs = model(batch)
    found = {}
    for i, output in enumerate(outputs):
        for field, value in output["instances"].get_fields().items():
            found[f"{i}.{field}"] = value.tensor if isinstance(value, Boxes) else value
        if "panoptic_seg" in output:
            found[f"{i}.sem_seg"] = output["sem_seg"]
            found[f"{i}.panoptic_seg"], _ = output["panoptic_seg"]
    return found
