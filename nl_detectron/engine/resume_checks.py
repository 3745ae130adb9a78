"""Checks that a run resumes the model and the optimizer that its checkpoint was trained with."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer

from ..errors import UsageError
from .block_records import KEY, find_mismatch
from .run import Run

# Detectron2 does not load these either: it has the former from the config, and computes the latter.
NOT_LOADED = ("pixel_mean", "pixel_std", "anchor_generator.cell_anchors")
# Keys of a config's model that a resumed run may change: they concern losses, samples, tests,
# pictures and memory only.
FREE = re.compile(
    r".*\.(?:device|weights|checkpoint|vis_period|batch_size_per_image|positive_fraction"
    r"|[^.]*(?:test|topk|loss)[^.]*|combine.*)",
    re.IGNORECASE,
)
MOST_KEYS = 3  # keys that a message names


def describe_training(run: Run, optimizer: Optimizer) -> dict[str, Any]:
    """What a resumed run must have in common with its checkpoint, as plain data: the class of the
    ``optimizer`` and the config's values of the ``model``."""
    # Detectron2 makes a class of its own for an optimizer that clips gradients
    name = type(optimizer).__name__.removesuffix("WithGradientClip")
    values = run.describe_model().items()
    return {"optimizer": name, "model": {k: v for k, v in values if not FREE.fullmatch(k)}}


def check_resumed(run: Run, model: nn.Module, path: str, content: dict[str, Any]) -> None:
    """Check that a training can continue from a checkpoint.

    Args:
        run: the training.
        model: its model, on any device.
        path: path of the checkpoint.
        content: everything in it.

    Raises:
        UsageError: the checkpoint is of another model or optimizer, or has no training state.
    """
    problem = next(_find_differences(run, model, content), None)
    if problem:
        weights, folder = run.keys["weights"], run.keys["output_dir"]
        raise UsageError(
            f"--resume: checkpoint {path!r} {problem}. Give the config of its run; or another "
            f"{folder} without --resume, and {path} as {weights} to start from its weights"
        )


def _find_differences(run: Run, model: nn.Module, content: dict[str, Any]) -> Iterator[str]:
    state = content.get("trainer", {})
    optimizer = run.build_optimizer(model)
    described = state.get("described")  # Detectron2 does not save it
    if described:
        yield from _compare_described(described, describe_training(run, optimizer))
    here = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    there = {name: tuple(value.shape) for name, value in content["model"].items()}
    there = {k: shape for k, shape in there.items() if not any(n in k for n in NOT_LOADED)}
    if lacking := [name for name in here if name not in there]:
        yield f"is of another model: it lacks {len(lacking)} tensors, such as {lacking[0]}"
    if unused := [name for name in there if name not in here]:
        yield f"is of another model: it has {len(unused)} more tensors, such as {unused[0]}"
    for name, shape in here.items():
        if there[name] != shape:
            yield f"is of another model: {name} is {there[name]} there and {shape} here"
    if problem := find_mismatch(run, model, content.get(KEY), there):
        yield f"is of a model with other non-local blocks: {problem}"
    if "iteration" not in state:
        yield "has weights, but no state of a training"
    state = state.get("_trainer", {})
    if "optimizer" in state:
        yield from _compare_groups(
            state["optimizer"]["param_groups"],
            optimizer.state_dict()["param_groups"],
        )
    if run.amp and "optimizer" in state:
        scaler = state.get("grad_scaler")
        if scaler is None or (run.amp_dtype == "float16" and not scaler):
            yield f"was trained without mixed precision in {run.amp_dtype}"


def _compare_described(there: Mapping[str, Any], here: Mapping[str, Any]) -> Iterator[str]:
    """Compare results of :func:`describe_training`. Only keys that both have are compared: a YAML
    file and a LazyConfig share none, and versions add keys."""
    ours, theirs = here["model"], there["model"]
    found = [
        f"{key} is {theirs[key]!r} there and {value!r} here"
        for key, value in ours.items()
        if key in theirs and theirs[key] != value
    ]
    if found:
        more = f", and {len(found) - MOST_KEYS} more" if len(found) > MOST_KEYS else ""
        yield f"is of another model: {', '.join(found[:MOST_KEYS])}{more}"
    if there["optimizer"] != here["optimizer"]:
        yield f"is of another optimizer: {there['optimizer']} there and {here['optimizer']} here"


def _compare_groups(there: list[dict], here: list[dict]) -> Iterator[str]:
    """Compare parameter groups of optimizers. Versions of PyTorch may add settings, but two
    optimizers each have settings that the other one lacks."""
    ours, theirs = (
        sorted(here[0].keys() - there[0].keys()),
        sorted(there[0].keys() - here[0].keys()),
    )
    if ours and theirs:
        yield (
            f"is of another optimizer: it has {', '.join(theirs)} there and {', '.join(ours)} here"
        )
    sizes = [[len(group["params"]) for group in groups] for groups in (there, here)]
    if sizes[0] != sizes[1]:
        yield (
            "is of an optimizer with other parameter groups, as by other factors of learning rates:"
            f" {len(there)} groups of {sum(sizes[0])} parameters there, {len(here)} groups of "
            f"{sum(sizes[1])} here"
        )
