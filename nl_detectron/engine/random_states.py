"""Random states of Python, NumPy and PyTorch."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def get_random_states() -> dict[str, Any]:
    """Return this process's random states as tensors and plain values, which any checkpoint can
    hold: "python", "numpy", "torch", and "cuda" (of the current device) if CUDA is in use."""
    version, words, gauss = random.getstate()
    name, keys, *rest = np.random.get_state()
    states = {
        "python": (version, torch.tensor(words), gauss),
        "numpy": (name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Set the states of :func:`get_random_states`; that of CUDA only where there is a GPU."""
    version, words, gauss = states["python"]
    random.setstate((version, tuple(words.tolist()), gauss))
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


@contextmanager
def keep_random_states() -> Iterator[None]:
    """Restore this process's random states on leaving."""
    states = get_random_states()
    try:
        yield
    finally:
        set_random_states(states)


@contextmanager
def seed_random_states(*key: int) -> Iterator[None]:
    """Draw random numbers on the CPU that depend on ``key`` alone. The states from before are
    restored on leaving."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    words = np.random.SeedSequence([part % 2**64 for part in key]).generate_state(6)
    random.seed(words.tobytes())
    np.random.seed(words[:4])
    torch.default_generator.manual_seed(int.from_bytes(words[4:].tobytes(), "little"))
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
