"""Converts a whole trained C2D or I3D, with its classifier, into a ``VideoClassifier``."""

import re
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg

from ..config import add_nonlocal_config
from ..engine import build_on_meta
from ..errors import UsageError
from ..modeling.video.resnet import DEPTHS
from .block import Tensors, convert_block
from .model import (
    COUNTERS,
    Converted,
    find_blocks,
    find_places,
    nonlocal_keys,
    tensors_of_blocks,
)
from .sources import SOURCES, renamed
from .video_sources import NAMINGS, VIDEO_SOURCES, Naming, VideoSource

EPS = 1e-5  # of all norms
STATISTICS = ("running_mean", "running_var")  # of a batch norm
GROUPED = [0, 4, 0, 0]  # frames of a group in res2 to res5, in the authors' models without BN


def convert_video(
    tensors: Tensors,
    source: str,
    clip: tuple[int, int],
    *,
    strides: str | None = None,
    places: dict[str, str] | None = None,
    **given: Any,
) -> Converted:
    """Convert a video model whole: stem, residual blocks, norms, non-local blocks, classifier.

    Args:
        tensors: all tensors of a checkpoint by name.
        source: a key of ``VIDEO_SOURCES``.
        clip: frames of a clip, and the step between them in frames of the video.
        strides: MODEL.VIDEO.STRIDES, if it is not that of the source's clips of this kind.
        places: as in :func:`convert`, for blocks whose names do not show where they belong.
        given: properties of blocks that tensors do not show, as in :func:`convert_block`, if they
            are not those of the source's own configs.

    Returns:
        All tensors of the model, and its config.

    Raises:
        UsageError: it is no C2D or I3D of this source, some of its tensors are missing or unknown,
            or any error of :func:`convert_block`.
    """
    if source not in VIDEO_SOURCES:
        raise UsageError(
            f"no whole video models of {source} are known, but those of {', '.join(VIDEO_SOURCES)}"
        )
    table = VIDEO_SOURCES[source]
    naming = _naming(tensors, source, table)
    found = find_blocks(tensors, SOURCES[naming.blocks])
    inside = tensors_of_blocks(found, SOURCES[naming.blocks])
    model, names, left = _rename({n: t for n, t in tensors.items() if n not in inside}, naming)
    affine = _fill_statistics(model, naming.blocks == "caffe2")
    config = _config(model, table, clip, strides or _strides(source, table, clip), affine)
    blocks: dict[str, str] = {}
    if found:
        facts = _facts(found, naming, table, given)
        blocks, keys, converted = _convert_blocks(found, naming.blocks, places, facts)
        seen = {"AXES": "spacetime", "FRAMES_PER_GROUP": GROUPED if affine else [0, 0, 0, 0]}
        config["MODEL"]["NONLOCAL"] |= keys | seen
        model |= converted
    elif given or places:
        raise UsageError("there are no non-local blocks, which an option given is about")
    return Converted(_fit(model, config), config, blocks, names, left)


def _naming(tensors: Tensors, source: str, table: VideoSource) -> Naming:
    for name in table.namings:
        if NAMINGS[name].first in tensors:
            return NAMINGS[name]
    others = [name for name, naming in NAMINGS.items() if naming.first in tensors]
    raise UsageError(
        f"there is no whole video model of {source} among {len(tensors)} tensors (such as "
        f"{', '.join(list(tensors)[:3])}), which would have "
        f"{' or '.join(NAMINGS[name].first for name in table.namings)}"
        + "".join(f"; these names are those of {name}" for name in others)
    )


def _rename(tensors: Tensors, naming: Naming) -> tuple[Tensors, dict[str, str], dict[str, str]]:
    """The tensors by our names, these names by theirs, and reasons by the names that are left."""
    model, names, left = {}, {}, {}
    for name, tensor in tensors.items():
        ours = renamed(name, naming.names)
        if ours is not None:
            names[name], model[ours] = ours, tensor
        elif name.endswith("num_batches_tracked"):
            left[name] = COUNTERS
        elif re.match(naming.network, name):
            raise UsageError(f"{name!r} is no tensor of a C2D or I3D, so nothing is converted")
        else:
            left[name] = "names of nothing in the network"
    return model, names, left


def _fill_statistics(model: Tensors, may_be_affine: bool) -> bool:
    """Give affine layers, norms without statistics, those that change nothing; whether all are.

    Args:
        model: tensors by our names, which are added to.
        may_be_affine: whether the source has such layers.
    """
    norms = [name.removesuffix(".weight") for name in model if name.endswith(".norm.weight")]
    lacking = [norm for norm in norms if not {f"{norm}.{s}" for s in STATISTICS} <= model.keys()]
    if lacking and not (may_be_affine and len(lacking) == len(norms)):
        raise UsageError(
            f"{lacking[0]} has no running mean and variance, as {len(lacking)} of {len(norms)} "
            "norms do not: without these statistics of its training it is another model"
        )
    for norm in norms:
        scale = model[f"{norm}.weight"]
        if lacking:
            model[f"{norm}.running_mean"] = torch.zeros_like(scale)
            model[f"{norm}.running_var"] = torch.full_like(scale, 1 - EPS)
        else:
            model[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    return bool(lacking)


def _strides(source: str, table: VideoSource, clip: tuple[int, int]) -> str:
    if isinstance(table.strides, str):
        return table.strides
    if clip not in table.strides:
        known = ", ".join(f"{frames}x{rate}" for frames, rate in table.strides)
        raise UsageError(
            f"{source} has models for clips of {known}: for those of {clip[0]}x{clip[1]}, give "
            "the strides in time too (paper, 8x8 or none)"
        )
    return table.strides[clip]


def _facts(
    found: dict[str, Tensors], naming: Naming, table: VideoSource, given: dict[str, Any]
) -> dict[str, Any]:
    """What is given about the blocks, and otherwise what the source's configs have in common."""
    facts = table.facts | given
    if naming.blocks == "caffe2" and "pool" in facts:  # of slowfast
        pool = tuple(facts.pop("pool"))
        facts = {"subsample": "none" if pool == (1, 1, 1) else "before", "scale": "divided"} | facts
    keys = {key for block in found.values() for key in block}
    embedded = any("theta" in key for key in keys) and not any("concat" in key for key in keys)
    if "scale" not in given and (not embedded or facts.get("pairwise") == "dot_product"):
        facts.pop("scale", None)  # the other pairwise functions have none
    return facts


def _convert_blocks(
    found: dict[str, Tensors], source: str, places: dict[str, str] | None, facts: dict[str, Any]
) -> tuple[dict[str, str], dict[str, Any], Tensors]:
    """Our names of the blocks by theirs, the keys of MODEL.NONLOCAL, and the blocks' tensors."""
    blocks, options, model = {}, {}, {}
    wanted = find_places(found, SOURCES[source], places)
    if missing := [name for name in found if name not in wanted]:
        raise UsageError(
            f"a whole model has all of its blocks: give a place for {', '.join(missing)} too"
        )
    for name, place in wanted.items():
        blocks[name] = f"backbone.{place.replace('.', '.nonlocal')}"
        try:
            block, options[name] = convert_block(found[name], source, ndim=3, **facts)
        except UsageError as error:
            raise UsageError(f"block {name!r}: {error}") from error
        model |= {f"{blocks[name]}.{key}": tensor for key, tensor in block.items()}
    return blocks, nonlocal_keys(options, wanted), model


def _config(
    model: Tensors, table: VideoSource, clip: tuple[int, int], strides: str, affine: bool
) -> dict[str, Any]:
    """The config of a model without blocks, by its tensors and its source."""
    resnet, (mean, std) = _resnet_keys(model), table.pixels
    return {
        "MODEL": {
            "META_ARCHITECTURE": "VideoClassifier",
            "PIXEL_MEAN": list(mean),
            "PIXEL_STD": list(std),
            "BACKBONE": {"NAME": "build_nonlocal_video_resnet_backbone", "FREEZE_AT": 0},
            "RESNETS": {
                **resnet,
                "OUT_FEATURES": ["res5"],
                "NORM": "FrozenBN" if affine else "BN",
                "STRIDE_IN_1X1": False,
            },
            "VIDEO": {
                "ARCH": _architecture(model),
                "STRIDES": strides,
                "POOL1": table.pool1,
                "NUM_CLASSES": len(model["linear.bias"]),
            },
            "NONLOCAL": {"BACKBONE": {"AFTER": []}},
        },
        "INPUT": {"FORMAT": "RGB", "VIDEO": {"FRAMES": clip[0], "RATE": clip[1]}},
        "TEST": {"VIDEO": {"FULLY_CONV": table.fully_conv}},
    }


def _resnet_keys(model: Tensors) -> dict[str, int]:
    """Depth and widths of the ResNet."""
    blocks = {match[1] for name in model if (match := re.match(r"backbone\.(res\d\.\d+)", name))}
    counts = tuple(sum(block.startswith(f"res{n}.") for block in blocks) for n in range(2, 6))
    depth = next((depth for depth, known in DEPTHS.items() if known == counts), None)
    if depth is None:
        raise UsageError(
            f"there is no ResNet of {', '.join(map(str, counts))} residual blocks: those of "
            f"{', '.join(map(str, DEPTHS))} layers can be converted"
        )
    first, second, last = (f"backbone.res2.0.conv{n}.weight" for n in (1, 2, 3))
    if missing := {first, second, last, "linear.bias"} - model.keys():
        raise UsageError(f"it lacks {min(missing)}, which is in every model")
    inner = len(model[first])
    groups = inner // model[second].shape[1]
    return {
        "DEPTH": depth,
        "NUM_GROUPS": groups,
        "WIDTH_PER_GROUP": inner // groups,
        "STEM_OUT_CHANNELS": len(model["backbone.stem.conv1.weight"]),
        "RES2_OUT_CHANNELS": len(model[last]),
    }


def _architecture(model: Tensors) -> str:
    """MODEL.VIDEO.ARCH, by which of a block's convs has more than one frame."""

    def frames(conv: str) -> int:
        pattern = rf"backbone\.res\d\.\d+\.{conv}\.weight"
        kernels = (t.shape for name, t in model.items() if re.fullmatch(pattern, name))
        return max(shape[2] if len(shape) == 5 else 1 for shape in kernels)

    if frames("conv2") > 1:
        return "i3d_3x3x3"
    return "i3d_3x1x1" if frames("conv1") > 1 else "c2d"


def _fit(model: Tensors, config: dict[str, Any]) -> Tensors:
    """The tensors in the shapes that the config's model has, if it has them and no others."""
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.merge_from_other_cfg(CfgNode(config))
    shapes = {name: tensor.shape for name, tensor in build_on_meta(cfg).state_dict().items()}
    if missing := shapes.keys() - model.keys():
        raise UsageError(f"it lacks tensors of the model ({len(missing)}): {min(missing)}")
    if unknown := model.keys() - shapes.keys():
        raise UsageError(f"the model has no such tensors ({len(unknown)}): {min(unknown)}")
    for name, shape in shapes.items():
        if [n for n in model[name].shape if n > 1] != [n for n in shape if n > 1]:
            raise UsageError(
                f"{name} has the shape {tuple(model[name].shape)}, but {tuple(shape)} in "
                f"{cfg.MODEL.VIDEO.ARCH} as it is here (docs/video.md), so nothing is converted"
            )
    return {name: model[name].reshape(shape) for name, shape in shapes.items()}
