"""What is published of a run: its results, its config without local paths, and its weights."""

import json
import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from nl_detectron_cli.names import program_command

from ..engine import build_on_meta, load_config
from ..engine.checkpoint_files import digest
from ..engine.config_values import flatten, flatten_config
from ..errors import UsageError
from .zoo import CONFIGS

# keys, or their beginnings, in which a run may differ from the package's config of its name
MAY_DIFFER = (
    *("OUTPUT_DIR", "SEED", "VERSION", "CUDNN_BENCHMARK", "SOLVER.", "DATALOADER."),
    *("VISUALIZE.", "TEST.EVAL_PERIOD", "MODEL.WEIGHTS", "MODEL.NONLOCAL.CHECKPOINT"),
)


def find_record(checkpoint: Path) -> dict[str, Any]:
    """Read what a run wrote when it evaluated a checkpoint: results, config and versions.

    Raises:
        UsageError: there is no record of this file; the message has the command that makes it.
    """
    sha256 = digest(str(checkpoint))
    for name in ("evaluation.json", "summary.json"):  # a separate evaluation has priority
        record = _read_json(checkpoint.with_name(name))
        if record.get("results") and record.get("checkpoint") == sha256:
            return record
    folder = checkpoint.parent
    argv = ["--config-file", folder / "config.yaml", "--eval-only"]
    argv += ["MODEL.WEIGHTS", checkpoint, "OUTPUT_DIR", folder]
    raise UsageError(
        f"neither summary.json nor evaluation.json in {folder} has results of {checkpoint.name} as "
        f"it is now; evaluate it: {program_command('train')} {shlex.join(map(str, argv))}"
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # the second: interrupted while writing
        return {}


def select_metrics(record: Mapping[str, Any], cfg: CfgNode) -> dict[str, float | None]:
    """Results on the first test set in percent, without those of single classes."""
    prefix = f"{cfg.DATASETS.TEST[0]}/" if len(cfg.DATASETS.TEST) > 1 else ""
    results = {k: v for k, v in record["results"].items() if k.startswith(prefix)}
    return {k.removeprefix(prefix): v for k, v in results.items() if "-" not in k.split("/")[-1]}


def strip_config(config: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return a config without this machine's device and folders, and the keys that changed."""
    stripped = {key: _strip_paths(value) for key, value in config.items()}
    del stripped["OUTPUT_DIR"], stripped["MODEL"]["DEVICE"]
    weights = stripped["MODEL"]["WEIGHTS"]
    stripped["MODEL"]["WEIGHTS"] = weights if "://" in weights else os.path.basename(weights)
    after = flatten(stripped)
    return stripped, [key for key, value in flatten(config).items() if after.get(key) != value]


def _strip_paths(value: Any) -> Any:
    """Return a copy in which absolute paths are replaced by their file names."""
    if isinstance(value, dict):
        return {key: _strip_paths(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_strip_paths(inner) for inner in value]
    if isinstance(value, str) and os.path.isabs(os.path.expanduser(value)):
        return os.path.basename(value)
    return value


def is_shipped(name: str) -> bool:
    """Whether the package has a config of this name."""
    return (CONFIGS / f"{name}.yaml").is_file()


def find_overrides(name: str, cfg: CfgNode, iterations: int) -> dict[str, Any]:
    """Find how a run differs from the package's config of its name; {} if there is no such config.

    Raises:
        UsageError: the model, the data or the number of images trained on differ.
    """
    if not is_shipped(name):
        return {}
    shipped = load_config(str(CONFIGS / f"{name}.yaml"))
    there, here = flatten_config(shipped), flatten_config(cfg)
    shared = sorted(there.keys() & here.keys())  # another version may have other keys
    differ = {key: here[key] for key in shared if there[key] != here[key]}
    wrong = [f"{k} {v}, not {there[k]}" for k, v in differ.items() if not k.startswith(MAY_DIFFER)]
    seen = cfg.SOLVER.IMS_PER_BATCH * iterations
    expected = shipped.SOLVER.IMS_PER_BATCH * shipped.SOLVER.MAX_ITER
    if seen != expected:
        wrong.append(f"trained on {seen:,} images (iterations times batch), not {expected:,}")
    if wrong:
        raise UsageError(
            f"this run is not one of {name}: {'; '.join(wrong)}. Give it a --name of your own"
        )
    return differ


def check_weights(model: Mapping[str, Any], cfg: CfgNode) -> dict[str, torch.Tensor]:
    """Return the weights as tensors on the CPU.

    Raises:
        UsageError: names or shapes are not those of the config's model.
    """
    expected = {name: t.shape for name, t in build_on_meta(cfg).state_dict().items()}
    weights = {name: torch.as_tensor(t).cpu().clone() for name, t in model.items()}
    shapes = {name: t.shape for name, t in weights.items()}
    names = sorted(expected.keys() | shapes.keys())
    if other := [name for name in names if expected.get(name) != shapes.get(name)]:
        first = other[0]
        raise UsageError(
            f"the checkpoint does not fit its config's model: {len(other)} tensors differ, such as "
            f"{first}, {_format_shape(shapes, first)} in the file and "
            f"{_format_shape(expected, first)} in the model"
        )
    return weights


def _format_shape(shapes: Mapping[str, torch.Size], name: str) -> str:
    return str(tuple(shapes[name])) if name in shapes else "missing"
