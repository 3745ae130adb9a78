"""From command line to a config that will run: a user's mistakes are told here, before any work."""

import difflib
import logging
import os
from argparse import Namespace
from collections.abc import Iterator, Mapping

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from ..config import add_nonlocal_config
from ..modeling import build_model
from .checkpoint import read_checkpoint
from .errors import UsageError
from .evaluation import check_test_set, check_training_set
from .pictures import check_pictures
from .trainer import check_optimizer

logger = logging.getLogger(__name__)

# Where a data set lies, by Detectron2's names in its metadata.
FILES = {
    "json_file": "annotations",
    "image_root": "images",
    "panoptic_json": "panoptic annotations",
    "panoptic_root": "panoptic masks",
    "sem_seg_root": "semantic masks (of COCO's Detectron2's prepare_panoptic_fpn.py makes them)",
}


def load_config(config_file: str, opts: list[str] = ()) -> CfgNode:
    """Detectron2's defaults, ours, a YAML file and ``KEY VALUE`` overrides, frozen.

    Where there is no CUDA and no explicit MODEL.DEVICE, the device is the CPU.

    Raises:
        UsageError: a file that is missing or no config, an unknown key, a value of a wrong type.
    """
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    check_file(config_file)
    if config_file.endswith(".py"):
        raise UsageError(
            f"config file {config_file!r} is a LazyConfig, which train_net.py alone takes; give a "
            "YAML file here"
        )
    try:
        written = CfgNode.load_yaml_with_base(config_file, allow_unsafe=False)
    except Exception as error:  # yaml raises a family of its own, over several lines
        reason = " ".join(str(error).split())
        raise UsageError(f"config file {config_file!r} cannot be read: {reason}") from error
    if not isinstance(written, dict):
        raise UsageError(f"config file {config_file!r} cannot be read: it holds no KEY: VALUE")
    _merge(cfg, lambda: cfg.merge_from_file(config_file), f"config file {config_file!r}")
    if len(opts) % 2:
        raise UsageError(
            f"overrides come as KEY VALUE pairs, got {len(opts)} words: {' '.join(opts)}"
        )
    known = set(_keys(cfg))
    for key in opts[::2]:
        if key not in known:
            raise _unknown_key(cfg, key, "override")
    _merge(cfg, lambda: cfg.merge_from_list(list(opts)), "override")
    explicit = "MODEL.DEVICE" in opts[::2] or "DEVICE" in written.get("MODEL", {})
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, explicit, "MODEL.DEVICE")
    cfg.freeze()
    return cfg


def check_file(config_file: str) -> None:
    """Raises UsageError where there is no such file."""
    if not config_file:
        raise UsageError("no config: give --config-file FILE, one of those below configs/")
    if not PathManager.isfile(config_file):
        raise UsageError(f"config file {config_file!r} does not exist; those we ship: configs/")


def _merge(cfg: CfgNode, merge, source: str) -> None:
    try:
        merge()
    except KeyError as error:  # yacs: "Non-existent config key: MODEL.X"
        raise _unknown_key(cfg, str(error.args[0]).rsplit(" ", 1)[-1], source) from error
    except (ValueError, TypeError, AssertionError) as error:  # TypeError: a value for a section
        raise UsageError(f"{source}: {error}") from error


def _unknown_key(cfg: CfgNode, key: str, source: str) -> UsageError:
    return UsageError(f"{source}: {no_key(cfg, key)}")


def no_key(cfg: Mapping, key: str) -> str:
    """That there is none, and which are near."""
    near = difflib.get_close_matches(key, _keys(cfg), n=3, cutoff=0.7)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"there is no config key {key!r}{hint}"


def _keys(node: Mapping, prefix: str = "") -> Iterator[str]:
    for name, value in node.items():
        yield prefix + name
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{name}.")


def choose_device(device: str, explicit: bool, key: str) -> str:
    """The CPU where there is no CUDA, unless the user asked for CUDA by ``key``."""
    if not device.startswith("cuda") or torch.cuda.is_available():
        return device
    if explicit:
        raise UsageError(
            f"{key} is {device}, but torch sees no CUDA device; use {key} cpu, or mend the driver"
        )
    return "cpu"


def preflight(cfg: CfgNode, args: Namespace) -> None:
    """Check devices, data sets and weights of a run before it starts.

    Args:
        cfg: of :func:`load_config`.
        args: of Detectron2's ``default_argument_parser``.

    Raises:
        UsageError: what is missing, and what to do about it.
    """
    check_devices(args, cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED, "SOLVER.AMP.ENABLED")
    if not args.eval_only:
        check_optimizer(cfg)
        check_pictures(cfg)
    train = () if args.eval_only else cfg.DATASETS.TRAIN
    if not (args.eval_only or train):
        raise UsageError("DATASETS.TRAIN is empty: name a registered data set to train on")
    if args.eval_only and not cfg.DATASETS.TEST:
        raise UsageError("--eval-only, but DATASETS.TEST is empty: name a registered data set")
    for name in (*train, *cfg.DATASETS.TEST):
        check_dataset(name)
    for name in train:
        check_training_set(cfg, name)
    for name in cfg.DATASETS.TEST:
        check_test_set(cfg, name)
    build_on_meta(cfg)
    check_weights(args, cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, "MODEL.WEIGHTS")


def start_run(cfg: CfgNode | DictConfig, args: Namespace) -> None:
    """Detectron2's ``default_setup`` (log files, seed, config.yaml) and our own log lines."""
    default_setup(cfg, args)
    if isinstance(cfg, CfgNode):
        output_dir, device = cfg.OUTPUT_DIR, cfg.MODEL.DEVICE
    else:
        output_dir, device = cfg.train.output_dir, cfg.train.device
    log = setup_logger(
        output_dir, distributed_rank=comm.get_rank(), name="nl_detectron", abbrev_name="nl"
    )
    if device == "cpu":
        log.info("Running on the CPU")


def check_devices(args: Namespace, device: str, amp: bool, key: str) -> None:
    """Raises UsageError for more GPUs than there are, or mixed precision (``key``) on a CPU."""
    if args.num_gpus * args.num_machines > 1 and args.num_gpus > torch.cuda.device_count():
        raise UsageError(
            f"--num-gpus {args.num_gpus}: torch sees {torch.cuda.device_count()} CUDA devices here"
        )
    if amp and device == "cpu" and not args.eval_only:
        raise UsageError(f"{key} needs CUDA; set it to False to train on the CPU")


def check_dataset(name: str) -> None:
    """Raises UsageError for a data set that is not registered, or whose files are not there."""
    if name not in DatasetCatalog.list():
        near = difflib.get_close_matches(name, DatasetCatalog.list(), n=3, cutoff=0.5)
        hint = f" (near it: {', '.join(near)})" if near else ""
        raise UsageError(
            f"data set {name!r} is not registered{hint}; register your own with "
            "detectron2.data.datasets.register_coco_instances"
        )
    meta = MetadataCatalog.get(name)
    if meta.get("made_on_demand", False):
        return
    for key, kind in FILES.items():
        path = meta.get(key)
        if path and not PathManager.exists(path):
            raise UsageError(
                f"data set {name!r}: its {kind} are not at {os.path.abspath(path)}; for COCO set "
                "the environment variable DETECTRON2_DATASETS to the folder that holds coco/ (now "
                f"{os.environ.get('DETECTRON2_DATASETS', 'unset, so ./datasets')}), for your own "
                "correct the path that it was registered with"
            )


def check_weights(args: Namespace, path: str, output_dir: str, key: str) -> None:
    """Raises UsageError for weights, a config's ``key``, that are missing or cannot be read; with
    --resume the last checkpoint in ``output_dir`` takes their place."""
    last = os.path.join(output_dir, "last_checkpoint")
    if args.resume:
        if PathManager.isfile(last):
            with PathManager.open(last) as file:
                path = os.path.join(output_dir, file.read().strip())
        else:
            logger.warning("--resume: no checkpoint in %s, so a new run starts", output_dir)
    if not path:
        if args.eval_only:
            raise UsageError(f"--eval-only needs {key}, or --resume and a run's output folder")
        return
    read_checkpoint(path)


def build_on_meta(cfg: CfgNode) -> nn.Module:
    """Build it where tensors have shapes but no memory, which takes a fraction of a second.

    Raises:
        UsageError: a config that describes no model.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    try:
        with torch.device("meta"):
            return build_model(cfg)
    except (ValueError, KeyError, AssertionError) as error:
        reason = str(error.args[0]) if error.args else "an assertion of Detectron2 failed"
        if isinstance(error, KeyError) and " " not in reason:
            reason = (
                f"it asks for {reason!r}, which is no feature of {cfg.MODEL.BACKBONE.NAME} with "
                "its OUT_FEATURES (or no norm)"
            )
        raise UsageError(f"this config describes no model: {reason}") from error
