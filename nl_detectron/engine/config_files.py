"""What YAML files and LazyConfigs share: where configs are, and checks of files, keys, devices."""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from detectron2.utils.file_io import PathManager

from ..errors import UsageError

PACKAGE = Path(__file__).parents[1]
# Inside the package in a wheel (setup.py), beside it in a clone.
CONFIGS = next(f for f in (PACKAGE / "configs", PACKAGE.parent / "configs") if f.is_dir())


def check_file(config_file: str) -> None:
    """Raises UsageError if there is no such file, or it is a URL."""
    if not config_file:
        raise UsageError("no config: give --config-file FILE, such as one of those in configs/")
    if "://" in config_file:
        raise UsageError(f"config {config_file!r} is a URL: download it and give the file")
    if PathManager.isfile(config_file):
        return
    if os.path.isdir(config_file):
        inside = sorted(f.name for f in Path(config_file).iterdir() if f.suffix in (".yaml", ".py"))
        hint = f", such as {os.path.join(config_file, inside[0])}" if inside else ""
        raise UsageError(f"config file {config_file!r} is a folder: give a file{hint}")
    near = _similar_configs(config_file)
    hint = f"did you mean {' or '.join(near)}?" if near else "see those in configs/"
    raise UsageError(f"config file {config_file!r} does not exist; {hint}")


def _similar_configs(config_file: str) -> list[str]:
    """Up to three files of similar names: beside a missing file, and in configs/, where the names
    of the model zoo are, too."""
    named = Path(config_file)
    beside = named.parent.glob("*") if named.parent.is_dir() else ()
    files = [*beside, *CONFIGS.rglob("*")]
    known = {f.stem: f for f in reversed(files) if f.suffix == (named.suffix or ".yaml")}
    stem = named.stem if named.suffix in (".yaml", ".py") else named.name
    near = difflib.get_close_matches(stem, known, n=3, cutoff=0.7)
    return [os.path.relpath(known[name]) for name in near]


def explain_unknown_key(cfg: Mapping, key: str) -> str:
    """Message for an unknown key, with up to three keys of similar spelling."""
    near = difflib.get_close_matches(key, config_keys(cfg), n=3, cutoff=0.7)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no config key {key!r}{hint}"


def config_keys(node: Mapping, prefix: str = "") -> Iterator[str]:
    """Dotted keys of all sections and values."""
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from config_keys(value, f"{prefix}{name}.")


def choose_device(device: str, explicit: bool, key: str) -> str:
    """Return ``device``, or "cpu" if it is a CUDA device and there is none.

    Raises:
        UsageError: there is no CUDA device, and the user asked for one (``explicit``) by ``key``.
    """
    if not device.startswith("cuda") or torch.cuda.is_available():
        return device
    if explicit:
        raise UsageError(
            f"{key} is {device}, but torch sees no CUDA device; set {key} cpu, or check the NVIDIA "
            "driver"
        )
    return "cpu"
