"""The kernels of fused attention that a call runs, by PyTorch's profiler."""

from collections.abc import Sequence

import torch

from .timing import Call


def attention_kernels(call: Call) -> list[str]:
    """Names of the CUDA kernels, or on the CPU the operators, of fused attention in a call.

    Raises:
        RuntimeError: the profiler recorded no kernel at all, so the answer is unknown.
    """
    activities = torch.profiler.ProfilerActivity
    cuda = torch.cuda.is_available()
    with torch.profiler.profile(
        activities=[activities.CUDA if cuda else activities.CPU]
    ) as profile:
        call()
        if cuda:
            torch.cuda.synchronize()
    names = {event.key.split("<")[0].split("(")[0] for event in profile.key_averages()}
    if not names:
        raise RuntimeError("the profiler recorded no kernels: may this user access CUPTI?")
    parts = ("fmha", "flash", "attn", "sdpa")
    return sorted(name for name in names if any(part in name.lower() for part in parts))


def attention_backend(kernels: Sequence[str]) -> str:
    """Name of the PyTorch backend that the kernels of :func:`attention_kernels` belong to.

    cuDNN is looked for first, because "flash" is in the names of its kernels too.
    """
    backends = {"cudnn": "cuDNN", "flash": "flash", "fmha": "memory-efficient"}
    names = " ".join(kernels).lower()
    unknown = "unknown" if kernels else "none"
    return next((backend for part, backend in backends.items() if part in names), unknown)
