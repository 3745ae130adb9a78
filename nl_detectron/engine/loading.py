"""From a config of either kind to its run, and to its model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike

import torch
from detectron2.config import CfgNode
from torch import nn

from ..data.coco_dataset import CocoDataset
from ..errors import UsageError
from ..modeling import find_blocks
from . import lazy, yaml_config
from .checkpoint import Checkpointer, fresh_outside_blocks, locate_checkpoint
from .run import Config, Run


def load_run(
    config_file: str,
    opts: Sequence[str] = (),
    data: Sequence[CocoDataset] = (),
    say: Callable[[str], None] = print,
) -> Run:
    """The run of a config file, whose ``cfg`` is what the file was loaded to.

    Args:
        config_file: a YAML file, or a LazyConfig, whose name ends in .py.
        opts: overrides: ``KEY VALUE`` for a YAML file, ``key=value`` for a LazyConfig.
        data, say: as in :func:`load_config`. A LazyConfig is not adapted to data, so that ``say``
            is not called.

    Raises:
        UsageError: of :func:`load_config`.
    """
    if (config_file or "").endswith(".py"):
        return describe_run(lazy.load_config(config_file, opts, data))
    return describe_run(yaml_config.load_config(config_file, opts, data, say))


def describe_run(cfg: Config) -> Run:
    """The run of a config that was loaded."""
    return yaml_config.describe_run(cfg) if isinstance(cfg, CfgNode) else lazy.describe_run(cfg)


def build_on_meta(cfg: Config) -> nn.Module:
    """Build the model where tensors have shapes but no memory, which takes a fraction of a second.

    Raises:
        UsageError: a config that describes no model.
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
            reason = (
                f"it asks for {reason!r}, which is no feature of {run.keys['features']} (or no "
                "norm)"
            )
        raise UsageError(f"this config describes no model: {reason}") from error


@dataclass(frozen=True)
class LoadedModel:
    """A model with the weights of a checkpoint, in evaluation mode.

    Attributes:
        run: what its config describes.
        model: on the config's device.
        checkpoint: the file; "" if there is none.
        fresh: the model's tensors that the checkpoint did not give.
        untrained: those of them outside of non-local blocks, without which no output means much.
        untrained_blocks: names of the blocks that have some of them. Such a block is the identity,
            unless the checkpoint has a part of it.
    """

    run: Run
    model: nn.Module
    checkpoint: str
    fresh: Sequence[str]
    untrained: Sequence[str]
    untrained_blocks: Sequence[str]

    def check_trained(self, purpose: str, part: str = "") -> None:
        """Raises UsageError if the checkpoint lacks more than the non-local blocks.

        Args:
            purpose: what would mean nothing, such as "an evaluation".
            part: only tensors whose names start so are needed.
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

    A baseline's weights do for a non-local model: its blocks are then identities.

    Args:
        config: a file, as in :func:`load_run`, or what it was loaded to.
        opts: overrides, for a file.
        weights: a checkpoint in place of the config's (MODEL.WEIGHTS, train.init_checkpoint); ""
            leaves the model as it was initialised.
        device: in place of the config's.
        resume: take the last checkpoint in the config's output folder, if there is one.

    Raises:
        UsageError: of :func:`load_run`, a config that describes no model, or a checkpoint that is
            missing or cannot be read.
    """
    loaded = isinstance(config, Config)
    run = describe_run(config) if loaded else load_run(str(config), opts)
    weights = run.weights if weights is None else weights
    if weights and not resume:
        locate_checkpoint(weights)  # before the model is built, which takes seconds
    model = _build_model(run, device).eval()
    checkpointer = Checkpointer(model, run.output_dir)
    checkpointer.resume_or_load(weights, resume=resume)
    fresh = tuple(checkpointer.fresh)
    blocks = [name for name in find_blocks(model) if any(f.startswith(f"{name}.") for f in fresh)]
    untrained = fresh_outside_blocks(checkpointer)
    return LoadedModel(run, model, checkpointer.path, fresh, untrained, blocks)
