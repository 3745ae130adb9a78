"""What checkpoints say of their non-local blocks, and whether a model computes the same.

Blocks with other pairwise functions, pools or scales may have the same tensors. So a checkpoint has
a description of each block under :data:`KEY`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from torch import nn

from ..config import is_video
from ..errors import UsageError
from ..layers import NonLocalBlock, VideoNonLocalBlock
from ..layers.pairwise import EmbeddedGaussian
from ..modeling import find_blocks
from .run import Run

KEY = "nonlocal_blocks"
Shapes = Mapping[str, Sequence[int]]
BLOCK = re.compile(r"(.*\.nonlocal\d+)\.")
# options of a block, and their keys in a YAML file and in a LazyConfig
OPTIONS = {
    "pairwise": ("MODEL.NONLOCAL.PAIRWISE", "model.backbone.block.pairwise"),
    "reduction": ("MODEL.NONLOCAL.REDUCTION", "model.backbone.block.reduction"),
    "subsample": ("MODEL.NONLOCAL.SUBSAMPLE", "model.backbone.block.subsample"),
    "use_scale": ("MODEL.NONLOCAL.USE_SCALE", "model.backbone.block.use_scale"),
    "norm": ("MODEL.NONLOCAL.NORM", "model.backbone.block.norm"),
    "axes": ("MODEL.NONLOCAL.AXES", ""),  # a LazyConfig has no video blocks
    "frames_per_group": ("MODEL.NONLOCAL.FRAMES_PER_GROUP", ""),  # a number for each stage
}
STAGES = ("res2", "res3", "res4", "res5")
# parts of a model with blocks: places by names of blocks, keys in a YAML file and a LazyConfig,
# and the key of the builder or head that places them
PARTS = {
    r"backbone\.(?:bottom_up\.)?(res\d)\.nonlocal(\d+)": (
        "MODEL.NONLOCAL.BACKBONE.AFTER",
        "model.backbone.after",
        "BACKBONE",
    ),
    r"roi_heads\.keypoint_head\.nonlocal(\d+)": (
        "MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER",
        "model.roi_heads.keypoint_head.after",
        "ROI_KEYPOINT_HEAD",
    ),
    r"roi_heads\.mask_head\.nonlocal(\d+)": (
        "MODEL.NONLOCAL.MASK_HEAD.AFTER",
        "model.roi_heads.mask_head.after",
        "ROI_MASK_HEAD",
    ),
}
HEADS = {
    "ROI_KEYPOINT_HEAD": ("NonLocalKeypointHead", "KRCNNConvDeconvUpsampleHead"),
    "ROI_MASK_HEAD": ("NonLocalMaskHead", "MaskRCNNConvUpsampleHead"),
}
OTHER_CONFIG = "give the config of its run"
BATCH_NORMS = ("BN", "SyncBN", "naiveSyncBN", "naiveSyncBN_N")  # which are one in evaluation


def describe_blocks(model: nn.Module) -> dict[str, dict[str, Any]]:
    """Options of each non-local block of a model by its name, as plain values."""
    return {name: _describe(block) for name, block in find_blocks(model).items()}


def _describe(block: NonLocalBlock) -> dict[str, Any]:
    described = {
        "pairwise": block.pairwise_name,
        "reduction": block.in_channels // block.inner_channels,
        "subsample": block.subsample,
        "norm": block.norm_name,
    }
    if isinstance(block.pairwise, EmbeddedGaussian):  # the others have no scale
        described["use_scale"] = block.pairwise.use_scale
    if isinstance(block, VideoNonLocalBlock):
        described |= {"axes": block.axes, "frames_per_group": block.frames_per_group}
        if block.axes == "time":  # which has no pool, whatever the config says
            del described["subsample"]
    return described


def find_mismatch(
    run: Run, model: nn.Module, blocks: Mapping[str, Mapping] | None, shapes: Shapes
) -> str:
    """Compare the blocks of a checkpoint with those of a model.

    A checkpoint without any block fits every model: the model's blocks are then identities.

    Args:
        run: whose model it is.
        model: on any device.
        blocks: the description in the checkpoint; None if it has none.
        shapes: of the checkpoint's tensors by name, which decide where there is no description.

    Returns:
        What differs, and the overrides of the config with which nothing would; "" if they fit.
    """
    here = describe_blocks(model)
    there = blocks
    if there is None:
        there = {m[1]: {} for name in shapes if (m := BLOCK.match(name))}
    if not there:
        return ""
    problems = _compare(there, here)
    if blocks is None:
        problems += _compare_tensors(model, shapes, [name for name in there if name in here])
    if not problems:
        return ""
    return f"{'; '.join(problems)}. To fit it: {_suggest(run, there, here)}"


def check_blocks(
    run: Run,
    model: nn.Module,
    path: str,
    blocks: Mapping[str, Mapping] | None,
    shapes: Shapes,
) -> None:
    """Raises UsageError if the checkpoint ``path`` has other blocks than a model; the other
    arguments are those of :func:`find_mismatch`."""
    if problem := find_mismatch(run, model, blocks, shapes):
        raise UsageError(
            f"checkpoint {path!r} is of a model with other non-local blocks: {problem}"
        )


def _compare(there: Mapping[str, Mapping], here: Mapping[str, Mapping]) -> list[str]:
    problems = []
    if unused := [name for name in there if name not in here]:
        problems.append(f"it has trained {', '.join(unused)}, which this model lacks")
    if lacking := [name for name in here if name not in there]:
        problems.append(f"it lacks {', '.join(lacking)}, untrained here")
    for option in OPTIONS:
        values = {
            (there[n][option], here[n][option])
            for n in there
            if n in here and _differs(option, there[n], here[n])
        }
        for was, now in sorted(values, key=str):
            problems.append(f"its blocks have {option} {was!r}, this model's {now!r}")
    return problems


def _compare_tensors(model: nn.Module, shapes: Shapes, blocks: Iterable[str]) -> list[str]:
    """Differences between the tensors of blocks that are in a checkpoint and in a model."""
    state = model.state_dict()
    problems = []
    for block in blocks:
        there, here = (
            {
                name.removeprefix(f"{block}."): tuple(shape)
                for name, shape in both.items()
                if name.startswith(f"{block}.") and not name.endswith("num_batches_tracked")
            }
            for both in (shapes, {name: tensor.shape for name, tensor in state.items()})
        )
        if there != here:
            name = next(n for n in {**there, **here} if there.get(n) != here.get(n))
            was, now = (shape.get(name, "absent") for shape in (there, here))
            problems.append(f"{block}.{name} is {was} there and {now} here")
    return problems


def _differs(option: str, there: Mapping, here: Mapping) -> bool:
    if option not in there or option not in here or there[option] == here[option]:
        return False
    return not (option == "norm" and {there[option], here[option]} <= set(BATCH_NORMS))


def _suggest(run: Run, there: Mapping[str, Mapping], here: Mapping[str, Mapping]) -> str:
    """The overrides of a run with which its model has the blocks of a checkpoint."""
    is_yaml = isinstance(run.cfg, CfgNode)
    words = []
    for pattern, (*keys, section) in PARTS.items():
        was, now = (_places(blocks, pattern) for blocks in (there, here))
        if was == now:
            continue
        if bool(was) != bool(now):
            if not isinstance(run.cfg, CfgNode):  # a LazyConfig's builders are no plain values
                return OTHER_CONFIG
            if not is_video(run.cfg):  # whose builder makes both
                words.append(f"MODEL.{section}.NAME {_builder(run.cfg, section, bool(was))}")
        places = str(was).replace(" ", "")
        words.append(f'{keys[0]} "{places}"' if is_yaml else f"{keys[1]}={places}")
    options = next(iter(there.values()))
    for option, keys in OPTIONS.items():
        if option == "frames_per_group":
            continue
        now = {of_block[option] for of_block in here.values() if option in of_block}
        if is_yaml and not now:
            now = {run.cfg.MODEL.NONLOCAL[keys[0].rsplit(".", 1)[1]]}
        if any(_differs(option, options, {option: value}) for value in now):
            value = options[option] if options[option] != "" else '""'
            words.append(f"{keys[0]} {value}" if is_yaml else f"{keys[1]}={value}")
    if any(_differs("frames_per_group", there[name], here.get(name, {})) for name in there):
        frames = {
            name.split(".")[-2]: one.get("frames_per_group", 0) for name, one in there.items()
        }
        by_stage = ",".join(str(frames.get(stage, 0)) for stage in STAGES)
        words.append(f'{OPTIONS["frames_per_group"][0]} "[{by_stage}]"')
    return " ".join(words) or OTHER_CONFIG


def _places(blocks: Iterable[str], pattern: str) -> list[str | int]:
    """Places in a config, such as "res4.4" in the backbone or 2 in a head, by names of blocks."""
    found = [list(match.groups()) for name in blocks if (match := re.fullmatch(pattern, name))]
    return [".".join(words) if len(words) > 1 else int(words[0]) for words in found]


def _builder(cfg: CfgNode, section: str, with_blocks: bool) -> str:
    """The builder or head with or without blocks."""
    if section in HEADS:
        return HEADS[section][0 if with_blocks else 1]
    plain = cfg.MODEL.BACKBONE.NAME.replace("build_nonlocal_", "build_")
    return plain.replace("build_", "build_nonlocal_", 1) if with_blocks else plain
