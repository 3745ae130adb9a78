"""Whole models: time and memory that blocks add to Detectron2's Mask R-CNN and Keypoint R-CNN.

Both models have the same weights, and the images are synthetic. The blocks start as identities, so
both models have the same proposals, RoIs, losses and boxes; losses and boxes are compared.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import torch
from detectron2.structures import Boxes, Instances, Keypoints, PolygonMasks
from detectron2.utils.events import EventStorage
from torch import nn

from nl_detectron.engine import Checkpointer, load_config
from nl_detectron.modeling import build_model

from . import cases
from .comparison import compare
from .timing import Budget, Call

IMAGENET = Path(os.environ.get("NL_DETECTRON_SHARED") or "../shared") / "weights/R-50.pth"
CONFIGS = Path(__file__).parent.parent / "configs"
MASK, KEYPOINTS = "COCO-InstanceSegmentation/mask_rcnn_R_50", "COCO-Keypoints/keypoint_rcnn_R_50"
MODELS = {  # config, its twin, and overrides
    "Mask R-CNN R50-FPN, 1 block": (f"{MASK}_FPN_nl_1x.yaml", f"{MASK}_FPN_1x.yaml"),
    "Mask R-CNN R50-FPN, 1 block, CHECKPOINT": (
        f"{MASK}_FPN_nl_1x.yaml",
        f"{MASK}_FPN_1x.yaml",
        "MODEL.NONLOCAL.CHECKPOINT",
        "True",
    ),
    "Keypoint R-CNN R50-FPN, 1 + 4 blocks": (
        f"{KEYPOINTS}_FPN_nl_nlhead_1x.yaml",
        f"{KEYPOINTS}_FPN_1x.yaml",
    ),
}
THIN = (  # small heads
    *("MODEL.FPN.OUT_CHANNELS", "16", "MODEL.ROI_BOX_HEAD.FC_DIM", "16"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16"),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(16, 16, 16, 16, 16, 16, 16, 16)"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "20"),
)
WAYS = ("nonlocal", "baseline")
OBJECTS = 8
MANY_TENSORS = True  # fresh.py then sets malloc to return memory at once
IMAGE, QUICK_IMAGE = (800, 1344), (64, 96)
BUDGET = Budget(seconds=20.0, at_least=15, at_most=40, within=0.03)
QUICK_BUDGET = Budget(seconds=1.0, at_least=1)


def records(quick: bool, image: tuple[int, int] | None = None) -> Iterator[dict]:
    height, width = image or (QUICK_IMAGE if quick else IMAGE)
    first, *_ = MODELS
    for model, mode in ((first, "inference"), *((model, "train") for model in MODELS)):
        weights = "ImageNet" if IMAGENET.exists() else "random"
        case = {"model": model, "mode": mode, "height": height, "width": width, "weights": weights}
        yield compare(__name__, case, WAYS, QUICK_BUDGET if quick else BUDGET)


def build(
    way: str,
    *,
    model: str,
    mode: str,
    height: int,
    width: int,
    images: int = 1,
    thin: bool = False,
    **_,
) -> Call:
    torch.manual_seed(0)
    config, twin, *overrides = MODELS[model]
    if thin:
        overrides += THIN
    network = load(twin, *(THIN if thin else ()))
    if way == "nonlocal":
        weights = network.state_dict()
        network = load(config, *overrides)
        unknown = network.load_state_dict(weights, strict=False).unexpected_keys
        if unknown:
            raise ValueError(f"the twin has tensors that the model lacks: {unknown}")
    batch = [make_synthetic_image(height, width, seed=2 + i) for i in range(images)]
    case = {"mode": mode}

    def train():
        torch.manual_seed(1)  # proposals are sampled randomly
        network.zero_grad(set_to_none=True)
        with EventStorage(), cases.precision(case):
            losses = network(batch)
        sum(losses.values()).backward()
        return (torch.stack([losses[name].detach() for name in sorted(losses)]),)

    def inference():
        with torch.no_grad(), cases.precision(case):
            return (network(batch)[0]["instances"].pred_boxes.tensor,)

    network.train(cases.trains(case))
    return train if cases.trains(case) else inference


def load(config: str, *opts: str) -> nn.Module:
    """Build a model with an ImageNet backbone, if its weights exist, and random heads.

    Scores of random heads are low; with a threshold of 0 there are 100 boxes all the same. Features
    of a random backbone grow from block to block, because its norms have no statistics of data. A
    large PIXEL_STD keeps them small and the proposals near their anchors, so that as many remain.
    """
    overrides = {"MODEL.WEIGHTS": "", "MODEL.ROI_HEADS.SCORE_THRESH_TEST": "0.0"}
    if not IMAGENET.exists():
        overrides["MODEL.PIXEL_STD"] = "[1000.0, 1000.0, 1000.0]"
    opts = [*opts, *(item for pair in overrides.items() for item in pair)]
    network = build_model(load_config(str(CONFIGS / config), opts))
    if IMAGENET.exists():
        Checkpointer(network).load(str(IMAGENET))
    return network


def make_synthetic_image(height: int, width: int, seed: int) -> dict:
    """Make an image of noise with objects that have boxes, masks and keypoints, for training."""
    torch.manual_seed(seed)
    size = torch.tensor([width, height])
    corner = torch.rand(OBJECTS, 2) * size / 2
    opposite = corner + (0.1 + 0.4 * torch.rand(OBJECTS, 2)) * size
    boxes = torch.cat([corner, opposite], dim=1)
    inside = corner[:, None] + torch.rand(OBJECTS, 17, 2) * (opposite - corner)[:, None]
    target = Instances((height, width))
    target.gt_boxes = Boxes(boxes)
    target.gt_classes = torch.zeros(OBJECTS, dtype=torch.long)
    outlines = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].double().numpy()
    target.gt_masks = PolygonMasks([[outline] for outline in outlines])
    target.gt_keypoints = Keypoints(torch.cat([inside, torch.full((OBJECTS, 17, 1), 2.0)], dim=2))
    image = torch.randint(0, 256, (3, height, width)).float()
    return {"image": image, "height": height, "width": width, "instances": target}


def small(case: dict) -> dict:
    height, width = QUICK_IMAGE
    return {**case, "height": height, "width": width}
