"""Reads tensors from checkpoints of other projects."""

import importlib
import os
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..engine.checkpoint_files import find_non_finite
from ..engine.weight_files import read_weight_file
from ..errors import UsageError


def read_tensors(path: str) -> dict[str, Tensor]:
    """Read the tensors by name from a file of ``torch.save``, a Caffe2 pickle (without momenta) or
    a file of safetensors.

    Raises:
        UsageError: as :func:`read_weight_file`, or the file does not exist, has no tensors, or has
            NaN or infinite values, or the package that reads it is not installed.
    """
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path!r}")
    if path.endswith(".safetensors"):
        return _read_safetensors(path)
    loaded = read_weight_file(path)
    tensors = {
        name: torch.as_tensor(value)
        for name, value in _by_name(loaded).items()
        if isinstance(value, Tensor | np.ndarray) and not name.endswith("_momentum")
    }
    if not tensors:
        raise UsageError(f"{path!r} holds no tensors by name")
    if name := find_non_finite(tensors):
        raise UsageError(f"{path!r} has NaN or infinite values in {name}: use another checkpoint")
    return tensors


def _read_safetensors(path: str) -> dict[str, Tensor]:
    try:
        load_file = importlib.import_module("safetensors.torch").load_file
    except ImportError as error:
        raise UsageError(
            f"{path!r} needs the package safetensors: pip install safetensors"
        ) from error
    try:
        return load_file(path)
    except Exception as error:  # its own
        raise UsageError(f"{path!r} cannot be read ({error}); download it again") from error


def _by_name(loaded: Any) -> dict[str, Any]:
    """The dict of tensors in the files of OpenMMLab, MoCo, SlowFast and Caffe2."""
    if not isinstance(loaded, dict):
        return {}
    inner = (loaded.get(key) for key in ("model", "state_dict", "model_state", "blobs"))
    return next((value for value in inner if isinstance(value, dict)), loaded)
