"""How other projects name and compute a whole C2D or I3D: one table per project.

A name here is that of ``VideoClassifier``. The trained models of a project share the facts below,
which no tensor shows; where its configs leave a choice, the argument is asked for.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .sources import SOURCES, STATISTICS, Table

IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # mean and std of pixels, 0 to 255
GREY = ((114.75,) * 3, (57.375,) * 3)  # of pixels from 0 to 1: 0.45 and 0.225


@dataclass(frozen=True)
class Naming:
    """The names of a whole network.

    Attributes:
        first: the name of the first conv, which only this naming has.
        names: ours, by theirs, without non-local blocks.
        network: pattern of all names of the network, known or not.
        blocks: key of ``SOURCES`` for the names of non-local blocks.
    """

    first: str
    names: Table
    network: str
    blocks: str


@dataclass(frozen=True)
class VideoSource:
    """What the trained video models of a project share.

    Attributes:
        namings: keys of ``NAMINGS``.
        pool1: MODEL.VIDEO.POOL1.
        pixels: mean and standard deviation of the three channels, RGB, in 0 to 255.
        strides: MODEL.VIDEO.STRIDES by frames and rate of a clip, or for all clips.
        facts: arguments of ``convert_block`` that all its configs agree on.
        fully_conv: TEST.VIDEO.FULLY_CONV.
        told_by: where the project's configs state what is assumed.
    """

    namings: tuple[str, ...]
    pool1: str
    pixels: tuple[tuple[float, ...], tuple[float, ...]]
    strides: Mapping[tuple[int, int], str] | str
    told_by: str
    facts: dict[str, Any] = field(default_factory=dict)
    fully_conv: bool = True


def _names(trunk: Table, head: Table) -> Table:
    """A whole network's table, of those of its ResNet and of its classifier."""

    def in_backbone(name: str | Callable[[re.Match], str]) -> str | Callable[[re.Match], str]:
        if callable(name):
            return lambda match: f"backbone.{name(match)}"
        return f"backbone.{name}"

    return {pattern: in_backbone(name) for pattern, name in trunk.items()} | dict(head)


CAFFE2_KINDS = {
    **{"w": "weight", "b": "bias", "s": "weight"},
    **{"rm": "running_mean", "riv": "running_var"},  # the variance, not its inverse
}
CONV_OF = {"a": "conv1", "b": "conv2", "c": "conv3", None: "shortcut"}


def _caffe2_residual(match: re.Match) -> str:
    stage, block, letter, norm, kind = match.groups()
    return f"res{stage}.{block}.{CONV_OF[letter]}.{'norm.' * bool(norm)}{CAFFE2_KINDS[kind]}"


def _mmaction2_residual(match: re.Match) -> str:
    layer, block, conv, part, kind = match.groups()
    conv = conv.replace("downsample", "shortcut")
    return f"res{int(layer) + 1}.{block}.{conv}.{'norm.' * (part == 'bn')}{kind}"


def _pytorchvideo_residual(match: re.Match) -> str:
    number, block, of_shortcut, of_branch, letter, kind = match.groups()
    stage = 2 if number == "1" else number  # the pool after res2 is block 2
    norm = "norm" in (of_shortcut, of_branch)
    return f"res{stage}.{block}.{CONV_OF[letter]}.{'norm.' * norm}{kind}"


NAMINGS = {
    # facebookresearch/video-nonlocal-net: lib/models/resnet_video.py, resnet_helper.py
    "caffe2": Naming(
        first="conv1_w",
        names=_names(
            {
                "conv1_w": "stem.conv1.weight",
                "res_conv1_bn_(s|b|rm|riv)": lambda m: f"stem.conv1.norm.{CAFFE2_KINDS[m[1]]}",
                r"res(\d)_(\d+)_branch[12]([abc])?(_bn)?_(w|s|b|rm|riv)": _caffe2_residual,
            },
            {"pred_(w|b)": lambda m: f"linear.{CAFFE2_KINDS[m[1]]}"},
        ),
        network=r"(t_)?(conv\d|res|nonlocal|pred)",
        blocks="caffe2",
    ),
    # facebookresearch/SlowFast: slowfast/models/video_model_builder.py, head_helper.py
    "slowfast": Naming(
        first="s1.pathway0_stem.conv.weight",
        names=_names(
            SOURCES["slowfast"].resnet, {r"head\.projection\.(weight|bias)": r"linear.\1"}
        ),
        network=r"s\d|head\.",
        blocks="slowfast",
    ),
    # facebookresearch/pytorchvideo: pytorchvideo/models/resnet.py, head.py
    "pytorchvideo": Naming(
        first="blocks.0.conv.weight",
        names=_names(
            {
                r"blocks\.0\.conv\.weight": "stem.conv1.weight",
                rf"blocks\.0\.norm\.{STATISTICS}": r"stem.conv1.norm.\1",
                r"blocks\.([1345])\.res_blocks\.(\d+)\."
                r"(?:branch1_(conv|norm)|branch2\.(conv|norm)_([abc]))\."
                rf"{STATISTICS}": _pytorchvideo_residual,
            },
            {r"blocks\.6\.proj\.(weight|bias)": r"linear.\1"},
        ),
        network=r"blocks\.",
        blocks="slowfast",
    ),
    # open-mmlab/mmaction2: mmaction/models/backbones/resnet3d.py, heads/i3d_head.py
    "mmaction2": Naming(
        first="backbone.conv1.conv.weight",
        names=_names(
            {
                r"backbone\.conv1\.conv\.weight": "stem.conv1.weight",
                rf"backbone\.conv1\.bn\.{STATISTICS}": r"stem.conv1.norm.\1",
                r"backbone\.layer(\d)\.(\d+)\.(conv\d|downsample)\.(conv|bn)\."
                rf"{STATISTICS}": _mmaction2_residual,
            },
            {r"cls_head\.fc_cls\.(weight|bias)": r"linear.\1"},
        ),
        network=r"backbone\.|cls_head\.",
        blocks="mmcv",
    ),
}

VIDEO_SOURCES = {
    "caffe2": VideoSource(
        ("caffe2",),
        "released",
        GREY,
        {(32, 2): "paper", (128, 1): "paper", (8, 8): "8x8", (32, 4): "8x8"},
        "configs/*.yaml and lib/core/config.py",
        {"pairwise": "embedded_gaussian", "subsample": "before", "scale": "divided"},
    ),
    # its models from Caffe2 have the names of that project and are computed as its own
    "slowfast": VideoSource(
        ("slowfast", "caffe2"),
        "slowfast",
        GREY,
        "8x8",
        "NONLOCAL, RESNET and DATA",
        {"pairwise": "embedded_gaussian", "pool": (1, 2, 2)},
    ),
    "pytorchvideo": VideoSource(
        ("pytorchvideo",), "slowfast", GREY, "8x8", "pytorchvideo/models/hub/resnet.py"
    ),
    "mmaction2": VideoSource(
        ("mmaction2",),
        "slowfast",
        IMAGENET,
        "paper",
        "configs/_base_/models/i3d_r50.py",
        {"scale": "none"},
        fully_conv=False,
    ),
}
