"""One non-local block: its tensors in the names here, and the arguments that make it the same."""

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from .sources import SOURCES, Source, renamed

Tensors = dict[str, Tensor]
GROUPS = 32  # of a GroupNorm here: Detectron2's get_norm


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
    """The tensors and arguments of the ``NonLocalBlock`` whose outputs are equal in evaluation.

    A bias before a batch norm goes into its running mean, a scale and shift without statistics
    (Caffe2's affine layer) into W_z.

    Args:
        tensors: of the block, by their names behind its own: ``conv_theta.weight``.
        source: a key of ``SOURCES``.
        ndim: of the block to be. Two, from a block of videos: an image gives what a video of this
            one frame gave.
        pairwise, subsample: as ``NonLocalBlock`` has them.
        pool: kernel of the source's max pool in (T,H,W), instead of ``subsample`` where its config
            names one.
        scale: of theta . phi in ``embedded_gaussian``: ``divided`` by sqrt(D), ``multiplied`` or
            ``none``.
        groups: of a GroupNorm.

    These arguments are needed where tensors do not show what the block computes. Two things can be
    neither seen nor given: an eps of the norm other than 1e-5, and for ``ndim=3`` SlowFast's
    NONLOCAL.GROUP, which splits a video into parts before the block sees it.

    Raises:
        UsageError: tensors of no such block, an argument that is missing, or one that does not
            hold of this block or of any block here.
    """
    table = source_of(source)
    block = {}
    for name, tensor in tensors.items():
        ours = renamed(name, table.block)
        if ours is None:
            raise UsageError(f"{name!r} is no tensor of a non-local block of {source}'s")
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
        possible["scale"] = ()  # the other forms have none
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
    """Raises UsageError for one that is not known."""
    if name not in SOURCES:
        raise UsageError(f"source: expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]


def _checked_channels(block: Tensors) -> tuple[int, int]:
    """C and D, of tensors that fit together."""
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
        raise UsageError(f"the block lacks what here is {' and '.join(lacking)}")


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
        raise UsageError("its norm has no running statistics; a batch norm's are expected")
    return "GN" if "norm.weight" in block and table.without_statistics == "GN" else ""


def _settled(possible: dict[str, tuple], given: dict[str, Any], table: Source) -> dict[str, Any]:
    """A value, or None, for each fact; all that are missing are asked for at once."""
    settled, asked = {}, []
    for fact, choices in possible.items():
        value, remark = given[fact], f" ({table.told_by[fact]})" if fact in table.told_by else ""
        if value is None and (len(choices) > 1 or (fact == "groups" and choices)):
            asked.append(f"--{fact} {'|'.join(map(_text, choices))}{remark}")
        elif value is None:
            value = next(iter(choices), None)
        elif not choices:
            facts = ", ".join(fact for fact in possible if possible[fact])
            raise UsageError(
                f"{fact}: got {_text(value)}, but what this block can be given is {facts}"
            )
        elif value not in choices:
            expected = " or ".join(map(_text, choices))
            raise UsageError(
                f"{fact}: expected {expected} for this block{remark}, got {_text(value)}"
            )
        settled[fact] = value
    if asked:
        raise UsageError(f"the tensors do not show all of it; give {', and '.join(asked)}")
    return settled


def _text(value: Any) -> str:
    """As the command line has it: 1,2,2 for a tuple."""
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _last_layers(block: Tensors, norm: str, table: Source) -> Tensors:
    """W_z and what follows it."""
    weight, bias = block["w_z.weight"], block.get("w_z.bias")
    if norm:
        _check_has(block, "norm.weight", "norm.bias", *["norm.running_var"] * (norm == "BN"))
        state = {name: tensor for name, tensor in block.items() if name.startswith("norm.")}
        if norm == "BN":
            state.setdefault("norm.num_batches_tracked", torch.tensor(0))
            if bias is not None:
                state["norm.running_mean"] = state["norm.running_mean"] - bias
        elif bias is not None:
            raise UsageError("W_z has a bias before its GroupNorm; here it would have none")
        return {"w_z.weight": weight, **state}
    if bias is None:
        if table.out_bias:
            raise UsageError(
                "W_z has no bias, so that a norm follows it, of which there are no tensors; such a "
                "norm cannot be taken over"
            )
        bias = weight.new_zeros(len(weight))
    if "norm.weight" in block:  # scale and shift
        _check_has(block, "norm.bias")
        scale = block["norm.weight"]
        weight = scale.reshape(-1, *[1] * (weight.dim() - 1)) * weight
        bias = scale * bias + block["norm.bias"]
    return {"w_z.weight": weight, "w_z.bias": bias}
