"""Reading checkpoints of others, running nothing that is in them."""

import os
import pickle
import re
import zipfile
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..errors import UsageError

# of a Caffe2 pickle
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
    """Of a pickle, containers and arrays alone: a pickle could run anything."""

    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core", "numpy._core")  # as NumPy 1 called it
        if (module, name) not in ALLOWED:
            raise pickle.UnpicklingError(f"{module}.{name} is no array")
        return super().find_class(module, name)


def read_tensors(path: str) -> dict[str, Tensor]:
    """The tensors by name of a file of ``torch.save`` or of a Caffe2 pickle, without momenta.

    Raises:
        UsageError: no such file, one that cannot be read, or one without tensors.
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
    except Exception as error:  # zip, pickle and torch each raise their own
        raise UsageError(
            f"{path!r} cannot be read ({type(error).__name__}: {_first_sentence(error)}). If it is "
            "whole, holds more than tensors and is of people you trust, keep its tensors alone: "
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
    """The reason alone: torch.load puts a page about its options before it, with colour codes."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error.__context__ or error)).strip()
    return re.split(r"\.\s|\n", text)[0][:200]


def _by_name(loaded: Any) -> dict[str, Any]:
    """OpenMMLab's files have a state_dict, SlowFast's a model_state, Caffe2's blobs."""
    if not isinstance(loaded, dict):
        return {}
    inner = (loaded.get(key) for key in ("model", "state_dict", "model_state", "blobs"))
    return next((value for value in inner if isinstance(value, dict)), loaded)
