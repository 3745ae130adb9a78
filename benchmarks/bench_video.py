"""Video: our block of clips against the plain formula, mmcv's ``NonLocal3d`` and PyTorchVideo's,
and a whole C2D against PyTorchVideo's, each with the same weights and the same outputs.

mmcv's block pools phi and g after their convs, as our subsample="after" does; the others pool x
first, as "before" does. PyTorchVideo has two pairwise functions. Its C2D's pool after res2 is the
released one.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nl_detectron.engine import load_config
from nl_detectron.layers import VideoNonLocalBlock
from nl_detectron.modeling import build_model
from nl_detectron.modeling.video.conv3d import Conv3d

from . import cases
from .bench_block import as_mmcv
from .cases import DEVICE
from .comparison import compare
from .timing import Budget, Call

FORMS = {
    "formula": ("gaussian", "embedded_gaussian", "dot_product", "concatenation"),
    "mmcv": ("gaussian", "embedded_gaussian", "dot_product", "concatenation"),
    "pytorchvideo": ("embedded_gaussian", "dot_product"),
}
C2D = "configs/Kinetics/c2d_R_50_8x8.yaml"


class Clip(NamedTuple):
    """Shape of x."""

    images: int
    channels: int
    frames: int
    height: int
    width: int


SHAPES = {  # of 32x2 on crops of 224
    "res3": Clip(2, 512, 4, 28, 28),
    "res4": Clip(2, 1024, 4, 14, 14),
}
QUICK = {"res3": Clip(1, 16, 2, 6, 6), "res4": Clip(1, 32, 2, 4, 4)}
MODEL, QUICK_MODEL = (224, Budget(seconds=15.0, at_least=5)), (64, Budget(at_least=1))


def records(quick: bool) -> Iterator[dict]:
    shapes = QUICK if quick else SHAPES
    for peer, mode, name in product(FORMS, cases.MODES, shapes):
        for form in FORMS[peer]:
            case = {"peer": peer, "shape": name, **shapes[name]._asdict(), "form": form}
            yield compare(__name__, {**case, "mode": mode}, (peer, "ours"), Budget())
    side, budget = QUICK_MODEL if quick else MODEL
    case = {"peer": "pytorchvideo", "model": "C2D R50 8x8", "side": side, "mode": "forward"}
    yield compare(__name__, case, ("pytorchvideo", "ours"), budget)


def build(way: str, **case) -> Call:
    """Build the call of a case; ``way`` is "ours" or the case's peer."""
    torch.manual_seed(0)
    return _build_model(way, case) if "model" in case else _build_block(way, case)


def small(case: dict) -> dict:
    return (
        {**case, "side": 64} if "model" in case else {**case, "images": 1, "height": 4, "width": 4}
    )


def _build_block(way: str, case: dict) -> Call:
    subsample = "after" if case["peer"] == "mmcv" else "before"
    ours = VideoNonLocalBlock(case["channels"], pairwise=case["form"], subsample=subsample)
    cases.randomise(ours)
    makers = {"mmcv": as_mmcv, "pytorchvideo": as_pytorchvideo, "formula": PlainBlock}
    block = (makers[way](ours) if way in makers else ours).to(DEVICE)
    return cases.call_block(block, case, [case[field] for field in Clip._fields])


class PlainBlock(nn.Module):
    """The block by the plain formula, with the matrix of all pairs and PyTorch's own layers."""

    def __init__(self, ours: VideoNonLocalBlock):
        super().__init__()
        self.form = ours.pairwise_name
        self.theta, self.phi, self.g, self.w_z = ours.theta, ours.phi, ours.g, ours.w_z
        self.pairwise = ours.pairwise
        for name in ("theta", "phi", "g", "w_z"):
            if isinstance(module := getattr(self, name), nn.Conv3d):
                conv = nn.Conv3d(module.in_channels, module.out_channels, 1)
                conv.load_state_dict(module.state_dict())
                setattr(self, name, conv)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.max_pool3d(x, (1, 2, 2))
        theta, phi, g = self.theta(x).flatten(2), self.phi(pooled).flatten(2), self.g(pooled)
        if self.form == "concatenation":
            w_theta, w_phi = self.pairwise.w_f.view(2, -1)
            sums = (w_theta @ theta)[:, :, None] + (w_phi @ phi)[:, None]
            weights = sums.relu() / phi.shape[2]
        else:
            weights = theta.transpose(1, 2) @ phi
            if self.form == "dot_product":
                weights = weights / phi.shape[2]
            else:
                scale = theta.shape[1] ** -0.5 if self.form == "embedded_gaussian" else 1.0
                weights = (scale * weights).softmax(dim=2)
        y = weights @ g.flatten(2).transpose(1, 2)
        return x + self.w_z(y.transpose(1, 2).unflatten(2, x.shape[2:]))


def as_pytorchvideo(ours: VideoNonLocalBlock) -> nn.Module:
    """PyTorchVideo's block with the weights of ours."""
    from pytorchvideo.layers.nonlocal_net import create_nonlocal

    block = create_nonlocal(
        dim_in=ours.in_channels,
        dim_inner=ours.inner_channels,
        pool_size=(1, 2, 2),
        instantiation="softmax" if ours.pairwise_name == "embedded_gaussian" else "dot_product",
        norm=None,
    )
    for name, conv in (("theta", ours.theta), ("phi", ours.phi), ("g", ours.g), ("out", ours.w_z)):
        getattr(block, f"conv_{name}").load_state_dict(conv.state_dict())
    return block


def _build_model(way: str, case: dict) -> Call:
    opts = ["MODEL.DEVICE", DEVICE, "MODEL.VIDEO.POOL1", "released"]
    ours = build_model(load_config(C2D, opts)).eval()
    pool1 = ours.backbone.stem.pool1
    pool1.padding = (0, 1, 1)  # PyTorchVideo's pool1 is padded in space, its pool2 is not
    for norm in (m for m in ours.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.0)
    network = as_pytorchvideos_c2d(ours) if way == "pytorchvideo" else ours
    torch.manual_seed(1)
    clip = 255 * torch.rand(1, 3, 8, case["side"], case["side"], device=DEVICE)

    def forward():
        with torch.no_grad():
            if way == "ours":
                return (ours.backbone((clip - ours.pixel_mean) / ours.pixel_std)["res5"],)
            return (network((clip - ours.pixel_mean) / ours.pixel_std),)

    return forward


def as_pytorchvideos_c2d(ours: nn.Module) -> nn.Module:
    """PyTorchVideo's C2D up to res5, with the weights of ours."""
    from pytorchvideo.models.hub import c2d_r50

    network = nn.Sequential(*c2d_r50(pretrained=False).blocks[:-1]).to(DEVICE).eval()
    backbone = ours.backbone
    _copy(backbone.stem.conv1, network[0].conv, network[0].norm)
    theirs = [block for stage in network[1:] for block in getattr(stage, "res_blocks", ())]
    blocks = [block for stage in backbone.stages for block in stage]
    for our, their in zip(blocks, theirs, strict=True):
        branch = their.branch2
        for conv, letter in ((our.conv1, "a"), (our.conv2, "b"), (our.conv3, "c")):
            _copy(conv, getattr(branch, f"conv_{letter}"), getattr(branch, f"norm_{letter}"))
        if our.shortcut is not None:
            _copy(our.shortcut, their.branch1_conv, their.branch1_norm)
    return network


def _copy(ours: Conv3d, conv: nn.Module, norm: nn.Module) -> None:
    conv.load_state_dict({"weight": ours.weight})
    if ours.norm is not None:
        norm.load_state_dict(ours.norm.state_dict())
