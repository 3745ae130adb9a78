"""Whether operations are computed now or recorded in a graph, which has one way for all sizes."""

import torch
from torch import Tensor
from torch._subclasses import FakeTensor


def is_exporting() -> bool:
    """Whether torch.jit.trace or torch.export records a graph, which has no backward pass."""
    # documented, though torch.jit does not re-export it by name
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return tracing or torch.compiler.is_exporting()


def is_in_graph() -> bool:
    """Whether torch.jit.trace, torch.export or torch.compile records a graph."""
    return is_exporting() or torch.compiler.is_compiling()


def can_read(t: Tensor) -> bool:
    """Whether t has values that can be read without waiting for a GPU."""
    return t.device.type == "cpu" and not isinstance(t, FakeTensor) and not is_in_graph()
