"""Finds the module whose output stops being finite first."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from detectron2.structures import Instances
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


class _Found(Exception):
    """Stops a forward pass."""


def find_nonfinite_output(model: nn.Module, batch: Any) -> str | None:
    """Run a model on a batch and name the first module whose output is NaN or infinite.

    The modules inside a module come before it. With several processes, batch norm uses its running
    statistics, because other processes may not run the model at the same time.

    Args:
        model: in training mode; its parameters are unchanged.
        batch: the model's argument.

    Returns:
        The module's name and class; None if all outputs are finite.
    """
    handles = []

    def check(name: str):
        def hook(module: nn.Module, _: tuple, output: Any) -> None:
            if not all(t.isfinite().all() for t in find_tensors(output)):
                raise _Found(f"{name or 'the model'} ({type(module).__name__})")

        return hook

    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    if comm.get_world_size() > 1:
        for norm in norms:
            norm.eval()
    for name, module in model.named_modules():
        handles.append(module.register_forward_hook(check(name)))
    try:
        with torch.no_grad():
            model(batch)
    except _Found as found:
        return str(found)
    except FloatingPointError:  # Detectron2's RPN, between modules
        return None
    finally:
        for handle in handles:
            handle.remove()
        for norm in norms:
            norm.train()
    return None


def find_tensors(value: Any) -> Iterator[Tensor]:
    """The floating-point tensors in an output: containers, Instances, boxes and image lists."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield value
        return
    inner: Iterable = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, Instances):
        inner = value.get_fields().values()
    elif isinstance(getattr(value, "tensor", None), Tensor):  # boxes, keypoints, masks, ImageList
        inner = [value.tensor]
    for one in inner:
        yield from find_tensors(one)
