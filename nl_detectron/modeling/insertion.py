"""Inserts non-local blocks into any model that runs its layers in an ``nn.Sequential``, such as the
ResNets of torchvision and timm."""

import inspect
import re
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from itertools import chain
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from ..layers import NonLocalBlock
from .placement import insert_after, isolated_rng, log_blocks
from .probes import Features, Place, Probe, find_features

AnyModule = TypeVar("AnyModule", bound=nn.Module)
OPTIONS = tuple(
    name
    for name, parameter in inspect.signature(NonLocalBlock).parameters.items()
    if parameter.kind == parameter.KEYWORD_ONLY and name != "ndim"
)
LISTED = 8  # containers in a message


def insert_nonlocal(
    model: AnyModule,
    after: str | Sequence[str],
    *,
    reduction: int = 2,
    example: object = None,
    **block,
) -> AnyModule:
    """Insert a :class:`NonLocalBlock` after each named layer of a model, in place.

    All layers keep their names and weights, so checkpoints of the model without blocks still load
    with ``strict=False``; load them before the call or after. The blocks are identities, and the
    model's output stays the same until they are trained (Sec. 4.1). Call this before the optimizer
    is built, which otherwise lacks the blocks' parameters.

    The numbers of channels come from two small forward passes in evaluation mode, which end at the
    last place.

    Args:
        model: a ResNet of torchvision or timm, or any other model with layers in an
            ``nn.Sequential``. Its maps may have 1, 2 or 3 dimensions after (B,C).
        after: names of layers. The last part is a name or a number; negative numbers count from the
            end, and ``*`` means all: ``"layer3.-2"`` is the paper's place in a ResNet (Sec. 5.1),
            ``"layer2.*"`` is after every residual block. A block after ``layer3.4`` is called
            ``layer3.nonlocal4``.
        reduction: channels of x divided by channels of theta, phi and g (Sec. 3.3).
        example: an input of the model, or a tuple of its arguments, for a model that takes anything
            else than images of any size.
        block: further keyword arguments of :class:`NonLocalBlock`, such as ``pairwise``, ``norm``
            or, in place of ``reduction``, ``inner_channels``.

    Returns:
        The model.

    Raises:
        ValueError: there is no such layer, a block is there already, the layer's container would
            not run it, or the number of channels cannot be found. The model is then unchanged.
    """
    _check(model, block)
    places = [place for name in _as_list(after) for place in _find_places(model, name)]
    _check_places(places)
    probes = [Probe() for _ in places]
    inserted = []
    try:
        for place, probe in zip(places, probes, strict=True):
            insert_after(place.container, place.child, place.block, probe)
            inserted.append(place)
        features = find_features(model, places, probes, example)
        with isolated_rng():
            blocks = [
                _make_block(*each, reduction=reduction, **block)
                for each in zip(places, features, strict=True)
            ]
    except BaseException:
        for place in inserted:
            delattr(place.container, place.block)
        raise
    for place, made in zip(places, blocks, strict=True):
        setattr(place.container, place.block, made)
    owners = [place.name.rpartition(".")[0] for place in places]
    names = [f"{owner}.{p.block}".lstrip(".") for owner, p in zip(owners, places, strict=True)]
    log_blocks(type(model).__name__, dict(zip(names, blocks, strict=True)))
    return model


def _check(model: nn.Module, block: dict) -> None:
    if isinstance(model, DataParallel | DistributedDataParallel | torch.jit.ScriptModule):
        raise ValueError(
            f"model: expected a plain module, got a {type(model).__name__}; insert blocks first"
        )
    unknown = [name for name in block if name not in OPTIONS]
    if unknown:
        raise ValueError(
            f"{', '.join(unknown)}: expected options of NonLocalBlock ({', '.join(OPTIONS)}), "
            "reduction or example"
        )


def _as_list(after: str | Sequence[str]) -> list[str]:
    names = [after] if isinstance(after, str) or not isinstance(after, Sequence) else list(after)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f'after: expected names of layers such as ["layer3.-2"], got {after!r}')
    return names


def _find_places(model: nn.Module, name: str) -> Iterator[Place]:
    """Places that a name in ``after`` stands for."""
    path, _, last = name.rpartition(".")
    try:
        container = model.get_submodule(path)
    except AttributeError:
        raise ValueError(f"after: there is no {path!r} in this model{_near(model, path)}") from None
    # named_children would leave out the second name of a module that is used twice
    children = [
        n
        for n, m in container._modules.items()
        if m is not None and not isinstance(m, NonLocalBlock)
    ]
    where = f"{path!r}" if path else "this model"
    if last in children:
        chosen = [last]
    elif last == "*":
        chosen = children
    elif re.fullmatch(r"-?\d+", last):
        if not -len(children) <= int(last) < len(children):
            raise ValueError(
                f"after: there is no {name!r}; {where} has "
                + (f"{len(children)} layers, 0 to {len(children) - 1}" if children else "no layers")
            )
        chosen = [children[int(last)]]
    else:
        raise ValueError(f"after: there is no {name!r} in this model{_near(model, name)}")
    for child in chosen:
        full = f"{path}.{child}" if path else child
        _check_container(full, container, child)
        yield Place(full, container, child, f"nonlocal{'' if child.isdigit() else '_'}{child}")


def _check_container(name: str, container: nn.Module, child: str) -> None:
    inside = container.get_submodule(child)
    hint = ""
    if isinstance(inside, nn.Sequential) and not isinstance(container, nn.Sequential):
        hint = f"; to insert after its last layer, write {name + '.-1'!r}"
    lists = nn.ModuleList | nn.ModuleDict | torch.jit.ScriptModule
    if isinstance(container, lists) or hint:
        raise ValueError(
            f"after: {name!r} belongs to a {type(container).__name__}, which does not pass the "
            f"output of one child to the next{hint or '; name a child of an nn.Sequential'}"
        )


def _check_places(places: Sequence[Place]) -> None:
    seen = set()
    for place in places:
        if place.name in seen:
            raise ValueError(f"after: {place.name!r} is named more than once")
        seen.add(place.name)
        if hasattr(place.container, place.block):
            raise ValueError(
                f"after: {place.name!r} has a block already, {place.block!r}; "
                "nl_detectron.modeling.find_blocks(model) lists all"
            )


def _near(model: nn.Module, name: str) -> str:
    """What the user may have meant: names like this one, or the model's containers."""
    names = [n for n, _ in model.named_modules() if n]
    if near := get_close_matches(name, names, n=3):
        return f"; did you mean {' or '.join(near)}?"
    sizes = {
        n: len(m) for n, m in model.named_modules() if isinstance(m, nn.Sequential) and len(m) > 1
    }
    outer = [n for n in sizes if n and not any(n.startswith(f"{o}.") for o in sizes if o)]
    listed = [f"{n} ({sizes[n]} layers)" for n in outer[:LISTED]]
    return f", which has {', '.join(listed)}" if listed else ""


def _make_block(place: Place, features: Features, *, reduction: int, **options) -> NonLocalBlock:
    channels, ndim = features
    if options.get("inner_channels") is None:
        if not isinstance(reduction, int) or not 1 <= reduction <= channels:
            raise ValueError(
                f"reduction: expected 1 to {channels} after {place.name!r}, got {reduction}"
            )
        options["inner_channels"] = channels // reduction
    block = NonLocalBlock(channels, ndim=ndim, **options).train(place.container.training)
    child = place.container.get_submodule(place.child)
    like = next(chain(child.parameters(), place.container.parameters()), None)
    return block.to(like.device, like.dtype) if like is not None else block
