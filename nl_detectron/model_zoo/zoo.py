"""The functions of ``detectron2.model_zoo`` for the configs and checkpoints of this package.

A name is a config's path below configs/, with or without ``.yaml``. Models published by
``nl-detectron publish`` are included if the environment variable NL_DETECTRON_ZOO names
their index.
"""

import difflib
import re
from pathlib import Path
from typing import cast

from detectron2 import model_zoo as detectron2_zoo
from detectron2.config import CfgNode, LazyConfig
from omegaconf import DictConfig
from torch import nn

from nl_detectron_cli.names import program_command

from ..engine import load_config, load_model
from ..engine.config_files import CONFIGS, IN_WHEEL
from ..errors import UsageError
from .converted import fetch_converted
from .files import fetch_verified
from .index import entries, shipped


def get_config_file(config_path: str) -> str:
    """Path of a config file.

    Args:
        config_path: name such as "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml".

    Raises:
        UsageError: there is no such config.
    """
    name = _name(config_path)
    suffix = config_path.removeprefix(name) or ".yaml"
    file = CONFIGS / f"{name}{suffix}"
    if not file.is_file():
        file = Path(entries().get(name, {}).get("config", file))
    if not file.is_file():
        there = {_name(f.relative_to(CONFIGS).as_posix()) for f in CONFIGS.rglob(f"*{suffix}")}
        near = difflib.get_close_matches(name, there | entries().keys(), n=3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"{config_path!r} is not a config of the model zoo{hint}")
    return str(file)


def get_checkpoint_url(config_path: str) -> str:
    """URL or path of the checkpoint that was trained with a config.

    A config that Detectron2's zoo has under the same name, with the same values, uses Detectron2's
    checkpoint until this package has one. Of a config for another project's video model it is that
    project's, which :func:`fetch_checkpoint` converts.

    Raises:
        UsageError: there is no such config, or nobody has trained it. The message says how to train
            it and where to start from.
    """
    get_config_file(config_path)
    name = _name(config_path)
    entry = entries().get(name, {})
    if "trained" in entry:
        return entry["trained"]["checkpoint"]
    if "converted" in entry:
        return entry["converted"]["checkpoint"]
    if entry.get("baseline") == name:
        return baseline_url(entry)
    raise UsageError(_untrained(name, entry))


def fetch_checkpoint(config_path: str) -> str:
    """Local path of the checkpoint of :func:`get_checkpoint_url`, after its SHA-256 was checked.

    A checkpoint of Detectron2's zoo, which publishes no SHA-256, is neither fetched nor checked
    here; its URL is returned. Another project's video model is converted, once; the path is that
    of the converted one, in the cache.

    Raises:
        UsageError: as in :func:`get_checkpoint_url`, or the file cannot be fetched, is another one
            or cannot be converted. A wrong file is removed from the cache.
    """
    url, name = get_checkpoint_url(config_path), _name(config_path)
    entry = entries().get(name, {})
    if "trained" not in entry and "converted" in entry:
        return fetch_converted(name, entry["converted"], load_config(get_config_file(name)))
    expected = entry.get("trained", {}).get("sha256")
    if not expected:
        return url
    return fetch_verified(url, expected, name)[0]


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """Load a config, not frozen.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: set MODEL.WEIGHTS (train.init_checkpoint of a LazyConfig) to the checkpoint of
            :func:`fetch_checkpoint`; otherwise it is the one that training starts from.

    Raises:
        UsageError: as in :func:`get_config_file`, :func:`fetch_checkpoint` and ``load_config``.
    """
    file = get_config_file(config_path)
    weights = fetch_checkpoint(config_path) if trained else None
    if file.endswith(".py"):
        cfg = cast(DictConfig, LazyConfig.load(file))
        cfg.train.init_checkpoint = weights or cfg.train.init_checkpoint
        return cfg
    cfg = load_config(file)
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights or cfg.MODEL.WEIGHTS
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """Build a model and load the weights of :func:`get_config`; the model is in training mode.

    Args:
        config_path, trained: as in :func:`get_config`.
        device: replaces the config's device; without CUDA the default is the CPU.

    Raises:
        UsageError: as in :func:`get_config`, or the weights cannot be read or belong to another
            model.
    """
    loaded = load_model(get_config(config_path, trained), device=device)
    if trained and loaded.fresh:
        raise UsageError(
            f"checkpoint {loaded.checkpoint!r} is not one of {config_path}: it lacks "
            f"{len(loaded.fresh)} of the model's tensors, such as {loaded.fresh[0]}"
        )
    return loaded.model.train()


def baseline_url(entry: dict) -> str:
    """URL of the checkpoint of an entry's baseline in Detectron2's zoo."""
    return detectron2_zoo.get_checkpoint_url(f"{entry['baseline']}.yaml")


def _name(config_path: str) -> str:
    return re.sub(r"\.(yaml|py)$", "", config_path)


def _train_command(name: str) -> str:
    file = f"{name}.yaml" if IN_WHEEL else f"configs/{name}.yaml"
    return f"{program_command('train')} --config-file {file} --num-gpus 8"


def _untrained(name: str, entry: dict) -> str:
    """Message for a model without a checkpoint: how to get one."""
    message = f"nobody has trained {name} yet. Train it: {_train_command(name)}"
    if "baseline" not in entry:
        return message
    finetune = re.sub(r"_[13]x$", "_finetune", name)
    if finetune == name:
        return f"{message}, which starts from Detectron2's baseline {baseline_url(entry)}"
    short = finetune in shipped()
    command = _train_command(finetune) if short else "the same with that URL as MODEL.WEIGHTS"
    return f"{message}, or start from Detectron2's baseline {baseline_url(entry)}: {command}"
