"""Configs as flat tables of values, to compare two of them."""

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
