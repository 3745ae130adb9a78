"""Loads LazyConfigs: ``.py`` files with overrides.

A LazyConfig has calls in its sections ``model``, ``optimizer``, ``lr_multiplier`` and
``dataloader``, and plain values in ``train``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

from detectron2.config import LazyConfig
from detectron2.model_zoo import get_config
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from ..data.own_dataset import OwnDataset
from ..data.video.dataset import VideoDataset
from ..errors import UsageError
from .config_checks import check_config
from .config_files import CONFIGS, choose_device, explain_unknown_key, find_config
from .dataset_overrides import register_data
from .run import Visualize

SECTIONS = ("model", "optimizer", "lr_multiplier", "dataloader", "train")
# Keys of ``train`` beyond Detectron2's. A YAML file has them as SOLVER.AMP.DTYPE, VISUALIZE and
# DATALOADER.MAX_BAD_SAMPLES and DATASETS.ALLOW_OUTSIDE_IMAGES.
DEFAULTS = {
    "amp": {"dtype": "float16"},
    "visualize": Visualize()._asdict(),
    "max_bad_samples": 0,
    "allow_outside_images": False,
}
# An override must be of the same kind as the value that it replaces, if that is one of these.
KINDS = {"True or False": bool, "a number": (int, float), "a section": Mapping}
MISSING = object()


def load_config(
    config_file: str,
    opts: Sequence[str] = (),
    data: Sequence[OwnDataset] = (),
    say: Callable[[str], None] = print,
) -> DictConfig:
    """Load a LazyConfig with ``key=value`` overrides (``+key=value`` adds a key).

    Defaults of ``train`` are those of Detectron2's common/train.py, and ``DEFAULTS``. Without CUDA
    and without an override of train.device, the device is the CPU. Loading runs the file's code.

    Args:
        config_file: path of a ``.py`` file, also below this package's configs/.
        opts: overrides.
        data: the user's data sets, which are registered. The config itself must have their names
            and their number of classes.
        say: called with a line on a file outside this package, as its code has run.

    Raises:
        UsageError: the file is missing or no config, a key is unknown, a value has a wrong type, or
            a data set is missing or not used.
    """
    config_file = find_config(config_file)
    try:
        cfg = cast(DictConfig, LazyConfig.load(config_file))
    except Exception as error:  # Python code can raise anything
        reason = " ".join(str(error.__cause__ or error).split())
        kind = type(error).__name__
        raise UsageError(f"config file {config_file!r} cannot be read: {kind}: {reason}") from error
    if not Path(config_file).resolve().is_relative_to(CONFIGS.resolve()):
        say(f"{config_file} is Python code from outside this package and ran with your rights")
    lacking = [name for name in SECTIONS if not isinstance(cfg.get(name), DictConfig)]
    if lacking:
        raise UsageError(
            f"config file {config_file!r} lacks {', '.join(lacking)}: a LazyConfig has the "
            f"sections {', '.join(SECTIONS)}"
        )
    cfg.train = OmegaConf.merge(train_defaults(), cfg.train)
    overridden = _override(cfg, opts)
    check_config(cfg)
    explicit = "train.device" in overridden
    cfg.train.device = choose_device(cfg.train.device, explicit, "train.device")
    for one in data:
        if isinstance(one, VideoDataset):
            raise UsageError(
                f"--dataset {one.name} has videos, but a LazyConfig's model takes images: give a "
                "data set in COCO's format, or a YAML file of a video model"
            )
    register_data(data)
    used = {name for part in ("train", "test") for name in data_sets(cfg, part)}
    for one in data:
        if one.name not in used:
            raise UsageError(
                f"--dataset {one.name} is used nowhere: a LazyConfig names its data sets in "
                "dataloader.train.dataset.names and dataloader.test.dataset.names, and their "
                "number of classes in its model"
            )
    return cfg


@cache
def train_defaults() -> DictConfig:
    """Section ``train`` of a config that sets nothing in it."""
    defaults = cast(DictConfig, get_config("common/train.py"))
    return cast(DictConfig, OmegaConf.merge(defaults.train, DEFAULTS))


def data_sets(cfg: DictConfig, part: str) -> tuple[str, ...]:
    """Names of the data sets of a part, "train" or "test"."""
    names = OmegaConf.select(cfg, f"dataloader.{part}.dataset.names", default=())
    return (names,) if isinstance(names, str) else tuple(names)


def _override(cfg: DictConfig, opts: Sequence[str]) -> set[str]:
    """Apply overrides in place, and return their keys."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(opts))
    except HydraException as error:
        reason = str(error).split("\n")[0]
        raise UsageError(
            f"overrides of a LazyConfig have the form key=value, got {' '.join(opts)}: {reason}"
        ) from error
    for override in overrides:
        key, source = override.key_or_group, f"override {override.input_line}"
        if override.is_delete() or override.is_sweep_override():
            raise UsageError(
                f"{source}: expected key=value (a list is [1,2]); keys cannot be deleted"
            )
        old = OmegaConf.select(cfg, key, default=MISSING)
        if old is MISSING and not (override.is_add() or override.is_force_add()):
            known = cast(dict, OmegaConf.to_container(cfg, resolve=False))
            reason = explain_unknown_key(known, key)
            raise UsageError(f"{source}: {reason}; to add it, write +{key}=value")
        wanted, value = _kind(old), override.value()
        if wanted not in (None, _kind(value)) and not isinstance(value, list | None):
            raise UsageError(f"{source}: expected {wanted}, got {value!r}")
    try:
        LazyConfig.apply_overrides(cfg, list(opts))
    except KeyError as error:  # a key below a plain value
        raise UsageError(f"overrides: {error.args[0]}") from error
    return {override.key_or_group for override in overrides}


def _kind(value: Any) -> str | None:
    return next((name for name, types in KINDS.items() if isinstance(value, types)), None)
