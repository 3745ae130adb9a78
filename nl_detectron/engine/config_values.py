"""Configs as flat tables of values, to compare two of them."""

import re
from collections.abc import Mapping
from typing import Any

import yaml
from detectron2.config import CfgNode


def flatten_config(cfg: CfgNode) -> dict[str, Any]:
    """Values by full key, such as "SOLVER.BASE_LR", with YAML's types: lists instead of tuples.

    They can be compared with the result of :func:`flatten` for a config.yaml.
    """
    return flatten(yaml.safe_load(cfg.dump()))


def flatten(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten a nested mapping: ``{"A": {"B": 1}}`` becomes ``{"A.B": 1}``."""
    values: dict[str, Any] = {}
    for key, value in node.items():
        name = f"{prefix}{key}"
        values.update(flatten(value, f"{name}.") if isinstance(value, Mapping) else {name: value})
    return values


def to_plain(value: Any) -> Any:
    """Return a value of a config as dicts, lists, numbers and text, which every reader of
    checkpoints loads; functions and classes become their names."""
    if isinstance(value, Mapping):
        return {str(key): to_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(inner) for inner in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    if callable(value) and hasattr(value, "__qualname__"):
        # Detectron2 gives modules of a LazyConfig's own files a name with random characters
        module = re.sub(r"^detectron2\._cfg_loader\w*\.", "", str(value.__module__))
        return f"{module}.{value.__qualname__}"
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
