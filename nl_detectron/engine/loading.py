"""Loads the run and the model that a YAML file or a LazyConfig describes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from detectron2.config import CfgNode
from torch import nn

from ..data.own_dataset import OwnDataset
from ..errors import UsageError
from ..modeling import find_blocks
from . import lazy, yaml_config
from .block_records import check_blocks
from .checkpoint import Checkpointer, fresh_outside_blocks, locate_checkpoint
from .run import Config, Run


def load_run(
    config_file: str,
    opts: Sequence[str] = (),
    data: Sequence[OwnDataset] = (),
    say: Callable[[str], None] = print,
) -> Run:
    """Load a config file and return its run, whose ``cfg`` is the loaded config.

    Args:
        config_file: a YAML file, or a LazyConfig, whose name ends in .py.
        opts: overrides: ``KEY VALUE`` for a YAML file, ``key=value`` for a LazyConfig.
        data, say: as in :func:`load_config`. A LazyConfig is not adapted to data; ``say`` gets a
            line if its code is from outside this package.

    Raises:
        UsageError: as in :func:`load_config`.
    """
    if (config_file or "").endswith(".py"):
        return describe_run(lazy.load_config(config_file, opts, data, say))
    return describe_run(yaml_config.load_config(config_file, opts, data, say))


def describe_run(cfg: Config) -> Run:
    """Return the run that a loaded config describes."""
    return yaml_config.describe_run(cfg) if isinstance(cfg, CfgNode) else lazy.describe_run(cfg)


def build_on_meta(cfg: Config) -> nn.Module:
    """Build the model on the meta device, where tensors have shapes but no values.

    This takes a fraction of a second.

    Raises:
        UsageError: the config describes no model.
    """
    with torch.device("meta"):
        return _build_model(describe_run(cfg), "meta")


def _build_model(run: Run, device: str | None = None) -> nn.Module:
    try:
        return run.build_model(device)
    except (ValueError, TypeError, KeyError, AssertionError, ImportError) as error:
        reason = error.args[0] if error.args else "an assertion of Detectron2 failed"
        reason = " ".join(str(reason).split())
        if isinstance(error, KeyError) and " " not in reason:
            reason = f"{reason!r} is neither a feature of {run.keys['features']} nor a norm"
        raise UsageError(f"this config describes no model: {reason}") from error


@dataclass(frozen=True)
class LoadedModel:
    """A model with the weights of a checkpoint, in evaluation mode.

    Attributes:
        run: the run that the config describes.
        model: the model, on the config's device.
        checkpoint: path of the checkpoint; "" if there is none.
        fresh: the model's tensors that the checkpoint lacks.
        untrained: those of ``fresh`` outside non-local blocks. If there are any, the model's output
            means little.
        untrained_blocks: names of the blocks with tensors in ``fresh``. Such a block is the
            identity, unless the checkpoint has some of its tensors.
    """

    run: Run
    model: nn.Module
    checkpoint: str
    fresh: Sequence[str]
    untrained: Sequence[str]
    untrained_blocks: Sequence[str]

    def check_trained(self, purpose: str, part: str = "") -> None:
        """Raises UsageError if the checkpoint lacks tensors outside non-local blocks.

        Args:
            purpose: what would mean nothing without them, such as "an evaluation".
            part: check only tensors whose names start with it.
        """
        lacking = [name for name in self.untrained if name.startswith(part)]
        if lacking:
            raise UsageError(
                f"checkpoint {self.checkpoint!r} lacks {len(lacking)} of this model's tensors "
                f"(such as {lacking[0]}), so {purpose} would mean nothing; give "
                f"{self.run.keys['weights']} a trained model's checkpoint"
            )


def load_model(
    config: str | PathLike | Config,
    opts: Sequence[str] = (),
    weights: str | None = None,
    *,
    device: str | None = None,
    resume: bool = False,
) -> LoadedModel:
    """Build the model of a config and load its weights.

    A non-local model can also be loaded from a baseline's weights; its blocks are then identities.
    Blocks in the file must be those of the model.

    Args:
        config: a config file, as in :func:`load_run`, or a loaded config.
        opts: overrides of a config file.
        weights: a checkpoint instead of the config's (MODEL.WEIGHTS, train.init_checkpoint); ""
            keeps the initial values.
        device: a device instead of the config's.
        resume: load the last checkpoint in the config's output folder, if there is one.

    Raises:
        UsageError: as in :func:`load_run`; or the config describes no model; or the checkpoint is
            missing, cannot be read, or is of a model with other blocks.
    """
    loaded = isinstance(config, Config)
    run = describe_run(config) if loaded else load_run(str(config), opts)
    weights = run.weights if weights is None else weights
    if weights and not resume:
        locate_checkpoint(weights)  # before the model is built, which takes seconds
    model = _build_model(run, device).eval()
    checkpointer = Checkpointer(model, run.output_dir)
    checkpointer.resume_or_load(weights, resume=resume)
    check_blocks(run, model, checkpointer.path, checkpointer.blocks, checkpointer.shapes)
    fresh = tuple(checkpointer.fresh)
    blocks = [name for name in find_blocks(model) if any(f.startswith(f"{name}.") for f in fresh)]
    untrained = fresh_outside_blocks(checkpointer)
    return LoadedModel(run, model, checkpointer.path, fresh, untrained, blocks)
