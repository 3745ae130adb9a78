"""Reads checkpoints of other projects without executing code in them."""

import os
import pickle
import re
import zipfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError

# what a Caffe2 pickle of arrays needs
ALLOWED = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("_codecs", "encode"),
    ("collections", "OrderedDict"),
}


TORCH_ADVICE = (
    "torch.save(torch.load(FILE, weights_only=False)[KEY], OTHER), where KEY is 'model_state' in "
    "files of SlowFast and PyTorchVideo, 'state_dict' in files of OpenMMLab"
)
PICKLE_ADVICE = "pickle.dump(pickle.load(FILE, encoding='latin1')['blobs'], OTHER), of opened files"


class Arrays(pickle.Unpickler):
    """Unpickles containers and arrays only, because a pickle can execute any code."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # its name in NumPy 1
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def read_tensors(path: str) -> dict[str, Tensor]:
    """Read the tensors by name from a file of ``torch.save`` or a Caffe2 pickle, without momenta.

    Raises:
        UsageError: the file does not exist, cannot be read, or has no tensors.
    """
    if not os.path.isfile(path):
        raise UsageError(f"there is no file {path!r}")
    is_pickle = path.endswith(".pkl") and not zipfile.is_zipfile(path)
    try:
        if is_pickle:
            with open(path, "rb") as file:
                loaded = Arrays(file, encoding="latin1").load()
        else:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch raise different types
        raise UsageError(
            f"{path!r} cannot be read ({type(error).__name__}: {_first_sentence(error)}). If it is "
            "complete, contains more than tensors and you trust its source, keep only its tensors: "
            + (PICKLE_ADVICE if is_pickle else TORCH_ADVICE)
        ) from error
    tensors = {
        name: torch.as_tensor(value)
        for name, value in _by_name(loaded).items()
        if isinstance(value, Tensor | np.ndarray) and not name.endswith("_momentum")
    }
    if not tensors:
        raise UsageError(f"{path!r} holds no tensors by name")
    return tensors


def _first_sentence(error: Exception) -> str:
    """Only the reason, without torch.load's page about its options and its colour codes."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error.__context__ or error)).strip()
    return re.split(r"\.\s|\n", text)[0][:200]


def _by_name(loaded: Any) -> dict[str, Any]:
    """The dict of tensors in OpenMMLab's, SlowFast's and Caffe2's files."""
    if not isinstance(loaded, dict):
        return {}
    inner = (loaded.get(key) for key in ("model", "state_dict", "model_state", "blobs"))
    return next((value for value in inner if isinstance(value, dict)), loaded)
