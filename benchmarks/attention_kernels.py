"""Which kernels of fused attention ran, as the profiler saw them."""

from collections.abc import Sequence

import torch

from .timing import Call


def attention_kernels(call: Call) -> list[str]:
    """Names of the CUDA kernels, or on the CPU the operators, of fused attention in a call.

    Raises:
        RuntimeError: the profiler saw no kernel at all, so that it cannot tell.
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
        raise RuntimeError("the profiler saw no kernels: is CUPTI allowed to this user?")
    words = ("fmha", "flash", "attn", "sdpa")
    return sorted(name for name in names if any(word in name.lower() for word in words))


def attention_backend(kernels: Sequence[str]) -> str:
    """Which of PyTorch's backends the kernels of :func:`attention_kernels` belong to.

    cuDNN's kernels are called flash too, so that cuDNN comes first.
    """
    backends = {"cudnn": "cuDNN", "flash": "flash", "fmha": "memory-efficient"}
    names = " ".join(kernels).lower()
    found = next((backend for word, backend in backends.items() if word in names), "none")
    return found if found != "none" or not kernels else "unknown"
