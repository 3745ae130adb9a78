"""Converts the ResNet of a checkpoint, and finds its depth and widths from its tensors."""

import re
from typing import Any

from ..errors import UsageError
from .block import Tensors
from .sources import Source, renamed

# MODEL.RESNETS.DEPTH by whether blocks are bottlenecks and the number of blocks in res2 to res5
DEPTHS: dict[tuple[int, ...], int] = {
    (False, 2, 2, 2, 2): 18,
    (False, 3, 4, 6, 3): 34,
    (True, 3, 4, 6, 3): 50,
    (True, 3, 4, 23, 3): 101,
    (True, 3, 8, 36, 3): 152,
}


def rename_resnet(tensors: Tensors, table: Source) -> tuple[dict[str, str], str]:
    """Detectron2's names for a ResNet's tensors, all or none of them, and the reason for none."""
    trunk = {
        name: tensor
        for name, tensor in tensors.items()
        if re.match(table.trunk, name) and not name.endswith("num_batches_tracked")
    }
    if trunk and table.resnet_differs:
        return {}, table.resnet_differs
    names: dict[str, str] = {}
    for name, tensor in trunk.items():
        ours = renamed(name, table.resnet)
        if ours is None:
            return {}, f"Detectron2's ResNet has nothing like {name}, so none of it is converted"
        if tensor.dim() == 5 and tensor.shape[2] > 1:
            return {}, f"{name} is a kernel over {tensor.shape[2]} frames, but an image has one"
        names[name] = ours
    return names, ""


def resnet_config(model: Tensors, config: dict[str, dict]) -> dict[str, Any]:
    """Config keys of a ResNet.

    Args:
        model: its tensors by their names in Detectron2's ResNet, such as "res2.0.conv1.weight".
        config: keys that the tensors do not show, as ``Source.resnet_config`` has them.

    Raises:
        UsageError: Detectron2 has no such ResNet.
    """
    blocks = {match[0] for name in model if (match := re.match(r"res\d\.\d+", name))}
    counts = [sum(block.startswith(f"res{stage}.") for block in blocks) for stage in range(2, 6)]
    bottleneck = "res2.0.conv3.weight" in model
    if (depth := DEPTHS.get((bottleneck, *counts))) is None:
        kind = "bottlenecks" if bottleneck else "blocks of two convs"
        raise UsageError(
            f"Detectron2 has no ResNet of {', '.join(map(str, counts))} {kind}; it has those of "
            f"{', '.join(map(str, sorted(DEPTHS.values())))} layers"
        )
    _check_stem_and_norms(model)
    keys: dict[str, Any] = {"DEPTH": depth}
    if bottleneck:
        inner = model["res2.0.conv1.weight"].shape[0]
        groups = inner // model["res2.0.conv2.weight"].shape[1]
        keys |= {"NUM_GROUPS": groups, "WIDTH_PER_GROUP": inner // groups}
    else:
        keys |= {"RES2_OUT_CHANNELS": 64}
    of_model = config.get("MODEL", {})
    resnets = keys | of_model.get("RESNETS", {})
    return {**config, "MODEL": {**of_model, "RESNETS": resnets}}


def _check_stem_and_norms(model: Tensors) -> None:
    stem = tuple(model["stem.conv1.weight"].shape) if "stem.conv1.weight" in model else ()
    if stem[1:] != (3, 7, 7):
        raise UsageError(
            f"Detectron2's ResNet begins with a conv of 7x7 pixels of 3 channels, but the first "
            f"conv here has the shape {stem}"
        )
    for name in model:
        norm = name.removesuffix(".norm.weight")
        if norm != name and f"{norm}.norm.running_var" not in model:
            raise UsageError(
                f"the norm of {norm} has no statistics, so it is no batch norm, which Detectron2's "
                "ResNet would take it for"
            )
