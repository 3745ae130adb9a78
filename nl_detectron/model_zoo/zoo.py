"""Detectron2's model_zoo verbs for the configs and checkpoints of this package, and your own.

A name is a config's path below configs/, with or without ``.yaml``. What
``tools/publish_checkpoint.py`` has written is found here too, where the environment variable
NL_DETECTRON_ZOO names its index.
"""

import difflib
import re
from pathlib import Path
from typing import cast

import torch
from detectron2 import model_zoo as detectron2_zoo
from detectron2.config import CfgNode, LazyConfig, instantiate
from omegaconf import DictConfig
from torch import nn

from ..engine import Checkpointer, load_config
from ..errors import UsageError
from ..modeling import build_model
from .index import entries, shipped

PACKAGE = Path(__file__).parents[1]
# A wheel has them in the package (setup.py), a clone beside it.
CONFIGS = next(f for f in (PACKAGE / "configs", PACKAGE.parent / "configs") if f.is_dir())
TRAIN = "python train_net.py --config-file configs/{}.yaml --num-gpus 8"


def get_config_file(config_path: str) -> str:
    """The file of a config.

    Args:
        config_path: such as "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml".

    Raises:
        UsageError: no such config.
    """
    name = _name(config_path)
    suffix = config_path.removeprefix(name) or ".yaml"
    file = CONFIGS / f"{name}{suffix}"
    if not file.is_file():
        file = Path(entries().get(name, {}).get("config", file))
    if not file.is_file():
        there = {_name(f.relative_to(CONFIGS).as_posix()) for f in CONFIGS.rglob(f"*{suffix}")}
        near = difflib.get_close_matches(name, there | entries().keys(), n=3)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise UsageError(f"{config_path!r} is no config of the model zoo{hint}")
    return str(file)


def get_checkpoint_url(config_path: str) -> str:
    """Address or path of the checkpoint that was trained with a config.

    A config that Detectron2's zoo has as well, under the same name and with the same values, has
    Detectron2's checkpoint as long as there is none of ours.

    Raises:
        UsageError: no such config, or one that nobody has trained: how to train it, and where to
            start from.
    """
    get_config_file(config_path)
    name = _name(config_path)
    entry = entries().get(name, {})
    if "trained" in entry:
        return entry["trained"]["checkpoint"]
    if entry.get("baseline") == name:
        return baseline_url(entry)
    raise UsageError(_untrained(name, entry))


def get_config(config_path: str, trained: bool = False) -> CfgNode | DictConfig:
    """A config, which may be changed.

    Args:
        config_path: as in :func:`get_config_file`.
        trained: its MODEL.WEIGHTS (train.init_checkpoint) are :func:`get_checkpoint_url`'s; else
            those that it starts to train from.

    Raises:
        UsageError: of the other verbs and of ``load_config``.
    """
    file = get_config_file(config_path)
    weights = get_checkpoint_url(config_path) if trained else None
    if file.endswith(".py"):
        cfg = cast(DictConfig, LazyConfig.load(file))
        cfg.train.init_checkpoint = weights or cfg.train.init_checkpoint
        return cfg
    cfg = load_config(file)
    cfg.defrost()
    cfg.MODEL.WEIGHTS = weights or cfg.MODEL.WEIGHTS
    return cfg


def get(config_path: str, trained: bool = False, device: str | None = None) -> nn.Module:
    """A model with the weights of :func:`get_config`, in training mode.

    Args:
        config_path, trained: as in :func:`get_config`.
        device: instead of the config's; without CUDA the default is the CPU.

    Raises:
        UsageError: of :func:`get_config`, weights that cannot be read, or a checkpoint that is not
            of this model.
    """
    cfg = get_config(config_path, trained)
    if isinstance(cfg, CfgNode):
        cfg.MODEL.DEVICE = device or cfg.MODEL.DEVICE
        model, weights = build_model(cfg), cfg.MODEL.WEIGHTS
    else:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        model, weights = instantiate(cfg.model).to(device), cfg.train.init_checkpoint
    checkpointer = Checkpointer(model)
    checkpointer.load(weights)
    if trained and checkpointer.fresh:
        raise UsageError(
            f"checkpoint {weights!r} is not one of {config_path}: it lacks "
            f"{len(checkpointer.fresh)} of its tensors, such as {checkpointer.fresh[0]}"
        )
    return model


def baseline_url(entry: dict) -> str:
    """Address of the checkpoint of an entry's baseline, in Detectron2's zoo."""
    return detectron2_zoo.get_checkpoint_url(f"{entry['baseline']}.yaml")


def _name(config_path: str) -> str:
    return re.sub(r"\.(yaml|py)$", "", config_path)


def _untrained(name: str, entry: dict) -> str:
    """What to do about a model that there is no checkpoint of."""
    told = f"nobody has trained {name} yet. Train it: {TRAIN.format(name)}"
    if "baseline" not in entry:
        return told
    finetune = re.sub(r"_[13]x$", "_finetune", name)
    if finetune == name:
        return f"{told}, which starts from Detectron2's baseline {baseline_url(entry)}"
    short = finetune in shipped()
    command = TRAIN.format(finetune) if short else "the same with MODEL.WEIGHTS and that address"
    return f"{told}, or start from Detectron2's baseline {baseline_url(entry)}: {command}"
