"""Reads weight files in every format that Detectron2 reads, and runs none of the code in them."""

import logging
import pickle
import re
import zipfile
from typing import Any
from urllib.parse import parse_qs

import torch

from ..errors import UsageError
from .restricted_pickle import ForbiddenGlobalError, load_arrays
from .trust import trusts_checkpoints

logger = logging.getLogger(__name__)


def read_checkpoint_file(path: str, query: str = "") -> dict[str, Any]:
    """Read a checkpoint as Detectron2's ``DetectionCheckpointer`` does, but without running code.

    Args:
        path: a local file: ``.pkl`` of Detectron2's or Caffe2's model zoo, ``.pyth`` of pycls, or
            any other name of a file of ``torch.save``.
        query: of the URL that the file is from, such as "matching_heuristics=True".

    Returns:
        The tensors or arrays by name under "model", and other entries.

    Raises:
        UsageError: as :func:`read_weight_file`, or the file holds no weights by name.
    """
    loaded = read_weight_file(path)
    if not isinstance(loaded, dict):
        raise UsageError(f"checkpoint {path!r} holds no model weights")
    if path.endswith(".pkl") and not loaded.keys() >= {"model", "__author__"}:
        blobs = loaded.get("blobs", loaded)  # Caffe2's ImageNet models have no "blobs"
        model = {k: v for k, v in blobs.items() if not k.endswith("_momentum")}
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}
    if path.endswith(".pkl"):
        return loaded
    if path.endswith(".pyth"):
        model = loaded.get("model_state", {})
        model = {k: v for k, v in model.items() if not k.endswith("num_batches_tracked")}
        return {"model": model, "__author__": "pycls", "matching_heuristics": True}
    if "model" not in loaded:
        loaded = {"model": loaded}
    options = parse_qs(query)
    if options.pop("matching_heuristics", None) == ["True"]:
        loaded |= {"matching_heuristics": True}
    if options:
        raise UsageError(f"checkpoint {path!r}: unknown query {query!r} at the end of its URL")
    return loaded


def read_weight_file(path: str, is_pickle: bool | None = None) -> Any:
    """Read what a weight file holds: tensors, arrays, plain values and containers.

    A ``.pkl`` is a pickle, read by :func:`load_arrays`; any other name is a file of ``torch.save``,
    read with ``weights_only=True``. A file that holds more runs code when it is read. It is refused
    unless the user trusts it (``--trust-checkpoint``).

    Args:
        path: a local file.
        is_pickle: whether it is a pickle, if its name does not say so.

    Raises:
        UsageError: the file is damaged, of another format, or holds more and is not trusted.
    """
    if is_pickle is None:
        is_pickle = path.endswith(".pkl") and not zipfile.is_zipfile(path)
    try:
        if is_pickle:
            with open(path, "rb") as file:
                return load_arrays(file)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zip, pickle and torch each raise their own
        if not trusts_checkpoints():
            asked = _asked_for(error)
            raise (_refuse(path, asked) if asked else _unreadable(path, error)) from error
        logger.warning("--trust-checkpoint: reading %s runs any code in it (%s)", path, error)
    try:
        if is_pickle:
            with open(path, "rb") as file:
                return pickle.load(file, encoding="latin1")
        return torch.load(path, map_location="cpu", weights_only=False)
    except Exception as error:
        raise _unreadable(path, error) from error


def check_url(path: str) -> None:
    """Raises UsageError for a URL with "..", whose download would leave the cache folder."""
    if "://" in path and ".." in path.split("/"):
        raise UsageError(f"checkpoint {path!r}: a URL with '..' in its path is refused")


def _asked_for(error: Exception) -> str:
    """Name of what a file asks for besides weights; "" if the file is damaged instead."""
    if isinstance(error, ForbiddenGlobalError):
        return str(error)
    found = re.search(r"GLOBAL ([\w.]+)", str(error))  # torch.load's message
    return found[1] if found else ""


def _refuse(path: str, asked: str) -> UsageError:
    return UsageError(
        f"checkpoint {path!r} is refused: besides weights it asks for {asked}, and to read such a "
        "file can run any code with your rights. Get a file of weights alone; or, if you made this "
        "one or trust its source, add --trust-checkpoint (in Python: with "
        "engine.trust(checkpoints=True))"
    )


def _unreadable(path: str, error: Exception) -> UsageError:
    reason = str(error).strip().split("\n")[0][:200]
    return UsageError(
        f"checkpoint {path!r} cannot be read ({type(error).__name__}: {reason}); it is damaged or "
        "of another format: download or save it again"
    )
