"""Weight files that would create a marker file, if reading them ran the code in them."""

import pickle
from pathlib import Path

import numpy as np
import torch


class Marker:
    """Unpickling it creates a file."""

    def __init__(self, file: Path):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def write_marked_file(path: Path, marker: Path) -> Path:
    """Write weights together with a :class:`Marker`: a pickle, or a file of ``torch.save``."""
    if path.suffix == ".pkl":
        model = {"stem.conv1.weight": np.ones((2, 3), np.float32)}
        content = {"model": model, "__author__": "someone", "more": Marker(marker)}
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        content = {"model": {"stem.conv1.weight": torch.ones(2, 3)}, "more": Marker(marker)}
        torch.save(content, path)
    return path


def assert_refused(message: str, file) -> None:
    """One line with the file, what it asks for, the flag and the risk."""
    assert "\n" not in message
    for part in (str(file), "open", "--trust-checkpoint", "run any code"):
        assert part in message
