"""Which tensors of a model a checkpoint has, and whose a checkpoint is that has none of them."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.checkpoint.c2_model_loading import align_and_update_state_dicts
from detectron2.layers import FrozenBatchNorm2d
from torch import Tensor, nn

from nl_detectron_cli.names import program_command

from ..errors import UsageError
from ..modeling.video import inflate_weights, without_time

BACKBONE = "backbone."
STATISTICS = ("running_mean", "running_var")
# by a pattern of names: the project, and the source of tools/convert_weights.py, if there is one
PROJECTS = {
    r"(module\.)?(encoder_q|base_encoder)\.": ("MoCo", "torchvision"),
    r"backbone\.body\.layer\d": ("torchvision's detectors", "torchvision"),
    r"(module\.)?backbone\.layer\d\.\d+\.conv\d": ("OpenMMLab (mmdetection)", "mmcv"),
    r"(module\.)?layer\d\.\d+\.conv\d\.weight": ("torchvision or timm", "torchvision"),
    r"s\d\.pathway0_": ("SlowFast or PyTorchVideo", "slowfast"),
    r"(nonlocal_conv\d_\d+_|res\d_\d+_branch)": ("Caffe2", "caffe2"),
    r"(module\.)?(patch_embed|blocks\.\d+|stages\.\d+|layers\.\d+)\.": (
        "a transformer or ConvNeXt, which is no ResNet",
        "",
    ),
}


@dataclass(frozen=True)
class WeightMatch:
    """What a checkpoint has of a model's tensors.

    Attributes:
        taken: the model's tensors that are in the file, in the model's shape.
        folded: statistics of frozen norms that are not in the file, because it has them in the
            norm's weight and bias (ImageNet weights of Caffe2).
        fresh: all other tensors of the model.
        wrong: shapes in the file and in the model, by name; these tensors are ``fresh`` too.
        unused: the file's tensors that the model lacks.
        in_file: names of the file's tensors, as they are in the file.
        inflated: tensors in ``taken`` that are for images in the file, and for clips in the model.
    """

    taken: Sequence[str]
    folded: Sequence[str]
    fresh: Sequence[str]
    wrong: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    unused: Sequence[str]
    in_file: Sequence[str]
    inflated: Sequence[str] = ()


def match_weights(
    model: nn.Module, content: Mapping[str, Any], path: str
) -> tuple[dict[str, Tensor], WeightMatch]:
    """Find the tensors of a checkpoint by their names in a model.

    Args:
        model: on any device, the meta device included.
        content: of ``read_checkpoint_file``: tensors or arrays under "model", and whether they are
            found by the ends of their names ("matching_heuristics").
        path: of the file, for messages.

    Returns:
        The tensors by their names in the model, where it has them, and the match. Those for images
        are inflated where the model has convs over time.

    Raises:
        UsageError: a name of the file is the end of several names of the model.
    """
    state = model.state_dict()
    given = {k: torch.as_tensor(v) for k, v in content["model"].items() if hasattr(v, "shape")}
    tensors = given
    if content.get("matching_heuristics"):
        try:
            tensors = align_and_update_state_dicts(
                without_time(model, given),
                dict(given),
                c2_conversion=content.get("__author__") == "Caffe2",
            )
        except ValueError as error:
            raise UsageError(f"checkpoint {path!r} cannot be used: {error}") from error
    if tensors and all(name.startswith("module.") for name in tensors):  # DistributedDataParallel's
        tensors = {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    inflated = inflate_weights(tensors, model)
    # Detectron2 computes anchors, which old files have.
    here = {k: v for k, v in tensors.items() if "anchor_generator.cell_anchors" not in k}
    wrong = {
        name: (tuple(tensors[name].shape), tuple(tensor.shape))
        for name, tensor in state.items()
        if name in tensors and tensors[name].shape != tensor.shape
    }
    taken = [name for name in state if name in tensors and name not in wrong]
    unused = [name for name in here if name not in state]
    folded = _find_folded(model, set(taken))
    known = {*taken, *folded}
    fresh = [name for name in state if name not in known]
    if content.get("matching_heuristics"):  # Detectron2 keeps the file's name of a wrong shape
        wrong |= _find_wrong_ends(fresh, unused, tensors, state)
        ends = tuple(f".{name}" for name in unused)
        named = {name for name in wrong if ends and f".{name}".endswith(ends)}
        unused = [u for u in unused if not any(f".{name}".endswith(f".{u}") for name in named)]
    return tensors, WeightMatch(taken, folded, fresh, wrong, unused, list(given), inflated)


def _find_folded(model: nn.Module, taken: set[str]) -> list[str]:
    """Statistics of frozen norms that a file has folded into the norm's weight and bias: it then
    has those of no frozen norm."""
    norms = [name for name, one in model.named_modules() if isinstance(one, FrozenBatchNorm2d)]
    if any(f"{norm}.running_mean" in taken for norm in norms):
        return []
    in_file = [norm for norm in norms if f"{norm}.weight" in taken]
    return [f"{norm}.{statistic}" for norm in in_file for statistic in STATISTICS]


def _find_wrong_ends(
    fresh: Sequence[str],
    unused: Sequence[str],
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
) -> dict[str, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes of tensors that a file names by the end of a name only, and has in another shape."""
    ends = {name: tuple(tensors[name].shape) for name in unused}
    found = {}
    for name in fresh:
        parts = name.split(".")
        for start in range(len(parts)):
            if shape := ends.get(".".join(parts[start:])):
                found[name] = shape, tuple(state[name].shape)
                break
    return found


def check_match(match: WeightMatch, path: str, key: str) -> None:
    """Check that a checkpoint has tensors of a model and of its backbone.

    Args:
        match: of :func:`match_weights`.
        path: of the checkpoint.
        key: the config's key of it, such as MODEL.WEIGHTS.

    Raises:
        UsageError: it has none; the message says whose it may be, and what converts it.
    """
    of_backbone = [name for name in (*match.taken, *match.fresh) if name.startswith(BACKBONE)]
    if match.taken and not of_backbone:
        return
    if any(name.startswith(BACKBONE) for name in match.taken):
        return
    part = "backbone" if of_backbone else "tensors"
    examples = ", ".join(match.in_file[:2])
    raise UsageError(
        f"checkpoint {path!r} lacks this model's {part}: of its {len(match.in_file)} tensors (such "
        f"as {examples}) {'none belongs there' if of_backbone else 'the model has none'}. "
        f"{_advise(match, path, key)}"
    )


def _advise(match: WeightMatch, path: str, key: str) -> str:
    if match.wrong:
        name, (there, here) = next(iter(match.wrong.items()))
        return f"It is of another size: {name} is {there} there and {here} here"
    known = (
        project
        for pattern, project in PROJECTS.items()
        if any(re.match(pattern, name) for name in match.in_file)
    )
    project, source = next(known, ("", ""))
    if not project:
        return (
            f"These are no names of Detectron2's; give {key} a checkpoint of Detectron2's, or none"
        )
    if not source:
        return f"Its names are those of {project}"
    return (
        f"Its names are those of {project}; to convert it: {program_command('convert')} "
        f"--source {source} --input {path} --output converted.pth"
    )
