"""Blocks put into a checkpoint of Detectron2's, to start a training from."""

from typing import Any

import torch
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names

from ..engine.checkpoint import read_checkpoint
from .block import Tensors


def merge_into_checkpoint(path: str, tensors: Tensors) -> dict[str, Any]:
    """The content of a checkpoint of Detectron2's with these tensors in it.

    Args:
        path: a file or address, in Detectron2's or Caffe2's names.
        tensors: by their names here.

    Raises:
        UsageError: it is not there, cannot be fetched, or is damaged.
    """
    base = read_checkpoint(path)
    merged = {name: torch.as_tensor(value) for name, value in base["model"].items()}
    if base.get("__author__") == "Caffe2":  # as MSRA's R-50.pkl
        merged, _ = convert_c2_detectron_names(merged)
    heuristics = {"matching_heuristics": True} if base.get("matching_heuristics") else {}
    return {"model": merged | tensors, **heuristics}
