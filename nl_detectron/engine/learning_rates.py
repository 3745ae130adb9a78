"""Learning rates: those of non-local blocks, and those of a resumed run."""

import logging
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..errors import UsageError

logger = logging.getLogger(__name__)

# Layers of a block that decide the weights of positions; the others make values and the output.
PAIRWISE_LAYERS = ("theta.", "phi.", "pairwise.")
# Settings of an optimizer's parameter groups that a resumed run may change, in words.
SETTINGS = {
    "initial_lr": "learning rate",
    "weight_decay": "weight decay",
    "momentum": "momentum",
    "nesterov": "Nesterov momentum",
    "betas": "betas",
    "eps": "epsilon",
}


def scale_block_rate(
    factor: float = 1.0, pairwise_factor: float = 1.0, blocks: Iterable[str] | None = None
) -> Callable[[str], float]:
    """Return a function from a parameter's name to the factor of its learning rate.

    It is the ``lr_factor_func`` of Detectron2's ``get_default_optimizer_params``.

    Args:
        factor: for all parameters of a block, as SOLVER.NONLOCAL_LR_FACTOR in a YAML file.
        pairwise_factor: multiplies ``factor`` for theta, phi and the pairwise function's own
            parameters, as SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR in a YAML file.
        blocks: module names of the blocks; by default, all names that end in ``nonlocal`` and a
            number, as those of this package do.

    Raises:
        UsageError: a factor is 0 or less.
    """
    check_factors(
        {"scale_block_rate's factor": factor, "scale_block_rate's pairwise_factor": pairwise_factor}
    )
    names = [r"(?:.*\.)?nonlocal\d+"] if blocks is None else map(re.escape, blocks)
    in_block = re.compile(rf"(?:{'|'.join(names)})\.(.+)")

    def lr_factor(name: str) -> float:
        match = in_block.fullmatch(name)
        if match is None:
            return 1.0
        return factor * (pairwise_factor if match[1].startswith(PAIRWISE_LAYERS) else 1.0)

    return lr_factor


def check_factors(factors: Mapping[str, float]) -> None:
    """Raises UsageError for a factor, given by its key, of 0 or less: blocks would not learn."""
    for key, factor in factors.items():
        if factor <= 0:
            raise UsageError(
                f"{key}: expected a number above 0, got {factor}; to keep a block as it is, call "
                "its freeze()"
            )


def read_settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The settings of an optimizer's parameter groups that a resumed run may change."""
    return [{k: group[k] for k in SETTINGS if k in group} for group in optimizer.param_groups]


def restore_settings(
    optimizer: Optimizer, scheduler: LRScheduler, settings: Sequence[Mapping[str, Any]]
) -> None:
    """Give the optimizer and the schedule of a resumed run the settings of the config.

    The optimizer's moments and the place in the schedule stay. A line of the log says what has
    changed; without a change nothing is done.

    Args:
        optimizer: the loaded optimizer.
        scheduler: its loaded schedule.
        settings: what :func:`read_settings` returned before they were loaded.
    """
    changes = []
    for key in SETTINGS:
        groups = zip(read_settings(optimizer), settings, strict=True)
        pairs = dict.fromkeys((old.get(key), new.get(key)) for old, new in groups)
        if texts := [f"{_text(old)} to {_text(new)}" for old, new in pairs if old != new]:
            changes.append(f"{SETTINGS[key]} from {', '.join(texts)}")
    if not changes:
        return
    logger.warning(
        "The config differs from the checkpoint, and the run continues with the config's: %s",
        "; ".join(changes),
    )
    for group, new in zip(optimizer.param_groups, settings, strict=True):
        group.update(new)
    scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, scheduler.get_lr(), strict=True):
        group["lr"] = rate


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
