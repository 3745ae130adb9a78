"""Counts the operations of a call that are kernels on a GPU, without one.

On PyTorch's meta device, tensors have shapes but no values, and operations run as on a GPU but
compute nothing.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# allocations, and a view that PyTorch does not declare as one
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view"}


class KernelCount(TorchDispatchMode):
    """Counts operations on a device, apart from views and allocations.

    Args:
        device: the type of device; what runs elsewhere, such as on the CPU, does not count.
    """

    def __init__(self, device: str = "meta"):
        super().__init__()
        self.device = device
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        # a view has the memory of an argument, which it does not write
        aliases = [r.alias_info for r in func._schema.returns]
        is_view = any(a is not None and not a.is_write for a in aliases)
        tensors = (t for t in tree_leaves(result) if isinstance(t, torch.Tensor))
        here = any(t.device.type == self.device for t in tensors)
        self.count += here and not is_view and func._opname not in FREE
        return result


def count_kernels(call: Callable[[], Any], device: str = "meta") -> int:
    """The number of kernels that a call starts on the device; some need several."""
    # the meta device has no autocast
    disabled = mock.patch.multiple(
        torch, is_autocast_enabled=lambda *_: False, autocast=lambda *_, **__: nullcontext()
    )
    with disabled, KernelCount(device) as kernels:
        call()
    return kernels.count
