"""Converts the tensors of one non-local block and determines the arguments of the equal block."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .sources import SOURCES, Source, renamed

Tensors = dict[str, Tensor]
GROUPS = 32  # of a GroupNorm in Detectron2's get_norm


def convert_block(
    tensors: Tensors,
    source: str,
    *,
    ndim: int = 2,
    pairwise: str | None = None,
    subsample: str | None = None,
    pool: Sequence[int] | None = None,
    scale: str | None = None,
    groups: int | None = None,
) -> tuple[Tensors, dict[str, Any]]:
    """Convert the tensors of a block, so that a ``NonLocalBlock`` has equal outputs in evaluation.

    A bias before a batch norm is folded into its running mean. A scale and shift without statistics
    (Caffe2's affine layer) is folded into W_z.

    Args:
        tensors: tensors of the block by name, without the block's own name: ``conv_theta.weight``.
        source: a key of ``SOURCES``.
        ndim: dimensions of the new block. With 2 and a block for videos, an image gives what a
            video of this single frame gave.
        pairwise, subsample: as in ``NonLocalBlock``.
        pool: kernel (T,H,W) of the source's max pool, instead of ``subsample`` if the source's
            config states a kernel.
        scale: scale of theta . phi in ``embedded_gaussian``: ``divided`` by sqrt(D),
            ``multiplied`` or ``none``.
        groups: number of groups of a GroupNorm.

    These arguments are needed where tensors do not show what the block computes. Two properties can
    neither be seen nor given: an eps of the norm other than 1e-5, and for ``ndim=3`` SlowFast's
    NONLOCAL.GROUP, which splits a video into parts before the block.

    Returns:
        The state dict and the keyword arguments of the ``NonLocalBlock``.

    Raises:
        UsageError: the tensors are not a block of this source, an argument is missing, or an
            argument contradicts this block or is not supported.
    """
    table = source_of(source)
    if not table.block:
        raise UsageError(f"{source} has no non-local blocks")
    block = {}
    for name, tensor in tensors.items():
        ours = renamed(name, table.block)
        if ours is None:
            raise UsageError(f"{name!r} is no tensor of a non-local block of {source}")
        block[ours] = tensor
    channels, inner = _checked_channels(block)
    possible = {
        "pairwise": _forms(block, table),
        "subsample": _subsamples(tensors, table),
        "pool": tuple(table.pools),
        "scale": table.scale,
        "groups": (GROUPS,) if (norm := _norm(block, table)) == "GN" else (),
    }
    if "embedded_gaussian" not in possible["pairwise"] or pairwise == "dot_product":
        possible["scale"] = ()  # the other pairwise functions have none
    given = dict(pairwise=pairwise, subsample=subsample, scale=scale, groups=groups)
    settled = _settled(possible, given | {"pool": pool and tuple(pool)}, table)
    options = {
        "pairwise": settled["pairwise"],
        "subsample": settled["subsample"] or table.pools[settled["pool"]],
        "use_scale": settled["scale"] != "none",
        "norm": norm,
    }

    state = {}
    for name in ("theta", "phi", "g"):
        if f"{name}.weight" in block:
            state[f"{name}.weight"] = block[f"{name}.weight"]
            state[f"{name}.bias"] = block.get(f"{name}.bias", block["g.weight"].new_zeros(inner))
    if settled["scale"] == "multiplied":  # q . k * sqrt(D) is (D q) . k / sqrt(D)
        for name in ("theta.weight", "theta.bias"):
            state[name] = inner * state[name]
    if "pairwise.w_f" in block:
        state["pairwise.w_f"] = block["pairwise.w_f"].flatten()
    state |= _last_layers(block, norm, table)
    for name, tensor in state.items():
        if tensor.dim() > 1:
            state[name] = tensor.reshape(*tensor.shape[:2], *[1] * ndim)
    return state, {"in_channels": channels, "inner_channels": inner, **options}


def source_of(name: str) -> Source:
    """The source called ``name``; raises UsageError if it is unknown."""
    if name not in SOURCES:
        raise UsageError(f"source: expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]


def _checked_channels(block: Tensors) -> tuple[int, int]:
    """C and D; raises UsageError if shapes do not match."""
    _check_has(block, "g.weight", "w_z.weight")
    if "theta.weight" in block or "phi.weight" in block or "pairwise.w_f" in block:
        _check_has(block, "theta.weight", "phi.weight")
    inner, channels = block["g.weight"].shape[:2]
    expected = dict.fromkeys(("theta", "phi", "g"), (inner, channels)) | {"w_z": (channels, inner)}
    for name, shape in expected.items():
        weight = block.get(f"{name}.weight")
        if weight is not None and (*weight.shape[:2], weight[0, 0].numel()) != (*shape, 1):
            raise UsageError(
                f"{name}.weight: expected {shape} and kernels of 1, got {tuple(weight.shape)}"
            )
    return channels, inner


def _check_has(block: Tensors, *names: str) -> None:
    lacking = [name for name in names if name not in block]
    if lacking:
        raise UsageError(f"the block lacks the tensors for {' and '.join(lacking)}")


def _forms(block: Tensors, table: Source) -> tuple[str, ...]:
    if "pairwise.w_f" in block:
        return ("concatenation",)
    if "theta.weight" in block:
        return ("embedded_gaussian", "dot_product")
    if "gaussian" not in table.pairwise:
        _check_has(block, "theta.weight", "phi.weight")
    return ("gaussian",)


def _subsamples(tensors: Tensors, table: Source) -> tuple[str, ...]:
    if not table.pooled:
        return table.subsample
    pooled = any(re.fullmatch(table.pooled, name) for name in tensors)
    return tuple(s for s in table.subsample if (s == "none") != pooled)


def _norm(block: Tensors, table: Source) -> str:
    if "norm.running_mean" in block:
        return "BN"
    if "norm.weight" in block and not table.without_statistics:
        raise UsageError("its norm has no running statistics, but a batch norm is expected")
    return "GN" if "norm.weight" in block and table.without_statistics == "GN" else ""


def _settled(possible: dict[str, tuple], given: dict[str, Any], table: Source) -> dict[str, Any]:
    """A value or None for each property; one error lists all that are missing."""
    settled, asked = {}, []
    for fact, choices in possible.items():
        value, remark = (
            given[fact],
            f" ({table.known_from[fact]})" if fact in table.known_from else "",
        )
        if value is None and (len(choices) > 1 or (fact == "groups" and choices)):
            asked.append(f"--{fact} {'|'.join(map(_text, choices))}{remark}")
        elif value is None:
            value = next(iter(choices), None)
        elif not choices:
            facts = ", ".join(fact for fact in possible if possible[fact])
            raise UsageError(
                f"{fact}: got {_text(value)}, but the options of this block are {facts}"
            )
        elif value not in choices:
            expected = " or ".join(map(_text, choices))
            raise UsageError(
                f"{fact}: expected {expected} for this block{remark}, got {_text(value)}"
            )
        settled[fact] = value
    if asked:
        raise UsageError(
            f"the tensors do not show all that the block computes; give {', and '.join(asked)}"
        )
    return settled


def _text(value: Any) -> str:
    """A value as on the command line: 1,2,2 for a tuple."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _last_layers(block: Tensors, norm: str, table: Source) -> Tensors:
    """Tensors of W_z and of the norm after it."""
    weight, bias = block["w_z.weight"], block.get("w_z.bias")
    if norm:
        _check_has(block, "norm.weight", "norm.bias", *["norm.running_var"] * (norm == "BN"))
        state = {name: tensor for name, tensor in block.items() if name.startswith("norm.")}
        if norm == "BN":
            state.setdefault("norm.num_batches_tracked", torch.tensor(0))
            if bias is not None:
                state["norm.running_mean"] = state["norm.running_mean"] - bias
        elif bias is not None:
            raise UsageError("W_z has a bias before its GroupNorm, which is not supported")
        return {"w_z.weight": weight, **state}
    if bias is None:
        if table.out_bias:
            raise UsageError(
                "W_z has no bias, so a norm follows it, but the norm has no tensors; such a norm "
                "cannot be converted"
            )
        bias = weight.new_zeros(len(weight))
    if "norm.weight" in block:  # scale and shift
        _check_has(block, "norm.bias")
        scale = block["norm.weight"]
        weight = scale.reshape(-1, *[1] * (weight.dim() - 1)) * weight
        bias = scale * bias + block["norm.bias"]
    return {"w_z.weight": weight, "w_z.bias": bias}
