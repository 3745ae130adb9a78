"""Finds the channels at places of a model where blocks are to be inserted.

A probe stands at each place and passes on what it receives. A forward pass shows the shape at every
place, and that the model runs what stands there. If a model takes no plain tensor, the channels are
those of the last conv or norm before the place.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd

# Sides of the input of two passes, by the convs' number of dimensions. A number of positions
# differs between the two, and a number of channels does not.
SIDES = {1: [(96,), (128,)], 2: [(96, 96), (128, 128)], 3: [(16, 64, 64), (24, 96, 96)]}


class Place(NamedTuple):
    """A place for a block: behind a child of a container.

    Attributes:
        name: the child's name in the model, such as ``layer3.4``.
        container: the module that the child belongs to.
        child: the child's name in the container.
        block: the name that the block gets in the container.
    """

    name: str
    container: nn.Module
    child: str
    block: str


class Features(NamedTuple):
    """Channels of a map (B,C,...), and the number of its dimensions after (B,C)."""

    channels: int
    ndim: int


class _AllSeenError(Exception):
    """Ends a forward pass at the last probe."""


class Probe(nn.Module):
    """Passes on its input and keeps the input's shape, or the name of its type."""

    def __init__(self) -> None:
        super().__init__()
        self.before: object = None  # what the child before it returned
        self.seen: tuple[int, ...] | str | None = None

    def forward(self, x: object) -> object:
        if x is self.before:  # else the container runs its children in another way
            self.seen = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
        return x


def find_features(
    model: nn.Module, places: Sequence[Place], probes: Sequence[Probe], example: object = None
) -> list[Features]:
    """Find the features at each place.

    Args:
        model: a model with a probe behind the child of each place.
        places, probes: equally many, in the same order.
        example: an input of the model, or a tuple of its arguments; zeros by default.

    Raises:
        ValueError: the model does not take the example, does not run a block at a place or has no
            map (B,C,...) there, or the channels there cannot be found.
    """
    inputs = _make_inputs(model) if example is None else [example]
    seen, failure = [], None
    for one in inputs:
        failure = _run(model, places, probes, one) or failure
        seen.append([probe.seen for probe in probes])
    if failure and example is not None:
        reason = _describe(failure)
        raise ValueError(f"example: this model does not take it ({reason})") from failure
    found = []
    by_place = list(zip(*seen, strict=True)) or [()] * len(places)
    for place, shapes in zip(places, by_place, strict=True):
        if shapes and None not in shapes:
            found.append(_check_maps(place, shapes))
        elif inputs and not failure:
            raise ValueError(
                f"after: a block after {place.name!r} would not run, as "
                f"{type(place.container).__name__} does not pass the output of one child to the "
                "next; name a child of an nn.Sequential"
            )
        else:
            found.append(_look(place, failure))
    return found


def _make_inputs(model: nn.Module) -> list[Tensor]:
    """Zeros for the model's first conv, in two sizes."""
    conv = next((module for module in model.modules() if isinstance(module, _ConvNd)), None)
    if conv is None:
        return []
    w = conv.weight
    return [w.new_zeros(1, conv.in_channels, *sides) for sides in SIDES[w.dim() - 2]]


def _run(
    model: nn.Module, places: Sequence[Place], probes: Sequence[Probe], example: object
) -> Exception | None:
    """Run a model on an input until every probe has seen something; return the error, if any."""
    for probe in probes:
        probe.seen = None
    hooks = []
    for place, probe in zip(places, probes, strict=True):

        def keep(_: nn.Module, args: object, output: object, probe: Probe = probe) -> None:
            probe.before = output

        def end(*_: object) -> None:
            if all(probe.seen is not None for probe in probes):
                raise _AllSeenError

        hooks.append(place.container.get_submodule(place.child).register_forward_hook(keep))
        hooks.append(probe.register_forward_hook(end))
    try:
        with torch.no_grad(), _evaluation_mode(model), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they would be about the example
            model(*example) if isinstance(example, tuple) else model(example)
    except _AllSeenError:
        pass
    except Exception as error:  # whatever a model raises for an input that it is not made for
        return error
    finally:
        for hook in hooks:
            hook.remove()
        for probe in probes:
            probe.before = None
    return None


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; the mode of every module is restored on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _check_maps(place: Place, shapes: Sequence[tuple[int, ...] | str]) -> Features:
    """Features of the shapes that a probe has seen, one for each pass."""
    shape = shapes[-1]
    if isinstance(shape, str) or len(shape) not in (3, 4, 5):
        raise ValueError(
            f"after: expected a map (B,C,L), (B,C,H,W) or (B,C,T,H,W) behind {place.name!r}, got "
            + (shape if isinstance(shape, str) else f"shape {shape}")
        )
    if len({each[1] for each in shapes}) > 1:
        raise ValueError(
            f"after: expected channels in dimension 1 behind {place.name!r}, got shapes "
            f"{' and '.join(map(str, shapes))} for two sizes of input; a block needs (B,C,...)"
        )
    return Features(shape[1], len(shape) - 2)


def _look(place: Place, failure: Exception | None) -> Features:
    """Features by the modules alone, for a model that takes no tensor."""
    child = place.container.get_submodule(place.child)
    convs = [module for module in child.modules() if isinstance(module, _ConvNd)]
    channels = getattr(child, "out_channels", None) or next(
        filter(None, map(_channels_of, reversed(list(child.modules())))), None
    )
    if not convs or not isinstance(channels, int) or not isinstance(place.container, nn.Sequential):
        tried = f" ({_describe(failure)})" if failure else ""
        raise ValueError(
            f"after: the channels behind {place.name!r} cannot be found, as this model does not "
            f"take a tensor of zeros{tried}; give example=, an input that it takes"
        )
    return Features(channels, convs[-1].weight.dim() - 2)


def _channels_of(module: nn.Module) -> int | None:
    """Channels of the output of a conv or norm."""
    if isinstance(module, _ConvNd):
        return module.out_channels
    if isinstance(module, nn.GroupNorm):
        return module.num_channels
    return module.num_features if isinstance(module, _NormBase) else None


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
