"""Whether operations are computed now or recorded in a graph, which has one way for all sizes."""

import torch


def is_exporting() -> bool:
    """Whether torch.jit.trace or torch.export records a graph, which has no backward pass."""
    # documented, though torch.jit does not re-export it by name
    tracing = torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
    return tracing or torch.compiler.is_exporting()


def is_in_graph() -> bool:
    """Whether torch.jit.trace, torch.export or torch.compile records a graph."""
    return is_exporting() or torch.compiler.is_compiling()
