"""From command line to a config that will run: a user's mistakes are told here, before any work."""

import difflib
import logging
import os
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig
from torch import nn

from ..config import add_nonlocal_config
from ..data.coco_dataset import CocoDataset
from ..errors import UsageError
from ..modeling import build_model
from .checkpoint import read_checkpoint
from .data_checks import check_dataset, check_fit
from .dataset_overrides import adapt_config_to_dataset, register_data
from .evaluation import check_test_set, check_training_set
from .mixed_precision import check_precision
from .pictures import check_pictures
from .trainer import check_optimizer

logger = logging.getLogger(__name__)


def load_config(
    config_file: str,
    opts: Sequence[str] = (),
    data: Sequence[CocoDataset] = (),
    say: Callable[[str], None] = print,
) -> CfgNode:
    """Detectron2's defaults, ours, a YAML file and ``KEY VALUE`` overrides, frozen.

    Where there is no CUDA and no explicit MODEL.DEVICE, the device is the CPU.

    Args:
        data: the user's data sets. They are registered, and the config is adapted to them by
            :func:`adapt_config_to_dataset`.
        say: takes a line on each thing that was decided by the data.

    Raises:
        UsageError: a file that is missing or no config, an unknown key, a value of a wrong type,
            or data that will not do.
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
    late = [word for word in opts if word.startswith("--")]
    if late:
        raise UsageError(f"{late[0]} comes after KEY VALUE overrides: give it before them")
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
    if data:
        adapt_config_to_dataset(cfg, data, opts[::2], say)
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
        args: of :func:`argument_parser`, or of Detectron2's ``default_argument_parser``.

    Raises:
        UsageError: what is missing, and what to do about it.
    """
    check_processes(args, cfg.MODEL.DEVICE, "MODEL.DEVICE")
    amp = cfg.SOLVER.AMP
    check_precision(amp.ENABLED, amp.DTYPE, cfg.MODEL.DEVICE, "SOLVER.AMP.DTYPE")
    if not args.eval_only:
        check_optimizer(cfg)
        check_pictures(cfg)
    train = () if args.eval_only else cfg.DATASETS.TRAIN
    if not (args.eval_only or train):
        raise UsageError("DATASETS.TRAIN is empty: name a registered data set to train on")
    if args.eval_only and not cfg.DATASETS.TEST:
        raise UsageError("--eval-only, but DATASETS.TEST is empty: name a registered data set")
    if train:
        _check_batch(cfg, args)
    for name in (*train, *cfg.DATASETS.TEST):
        check_dataset(name)
    for name in train:
        check_training_set(cfg, name)
    for name in cfg.DATASETS.TEST:
        check_test_set(cfg, name)
    check_fit(cfg, train, cfg.DATASETS.TEST)
    check_norms(build_on_meta(cfg), args, cfg.MODEL.DEVICE)
    check_weights(args, cfg.MODEL.WEIGHTS, cfg.OUTPUT_DIR, "MODEL.WEIGHTS")


def start_run(cfg: CfgNode | DictConfig, args: Namespace) -> None:
    """Detectron2's ``default_setup`` (log files, seed, config.yaml) and our own log lines.

    In each process of a run, of which the first alone knows the data sets of --dataset before.
    """
    register_data(getattr(args, "dataset", ()))
    notes = getattr(args, "notes", ())
    default_setup(cfg, Namespace(**{k: v for k, v in vars(args).items() if k != "notes"}))
    # One choice for all of a model: matrix products take TF32 where convs do, as by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    if isinstance(cfg, CfgNode):
        output_dir, device = cfg.OUTPUT_DIR, cfg.MODEL.DEVICE
    else:
        output_dir, device = cfg.train.output_dir, cfg.train.device
    log = setup_logger(
        output_dir, distributed_rank=comm.get_rank(), name="nl_detectron", abbrev_name="nl"
    )
    if device == "cpu":
        log.info("Running on the CPU")
    for note in notes:
        log.info(note)


def check_processes(args: Namespace, device: str, key: str) -> None:
    """Raises UsageError for more processes on GPUs than there are GPUs, or a machine that is none
    of ``--num-machines``.

    ``key`` is the config's for the device. Where there are no GPUs, it must ask for the CPU, so
    that a run for many GPUs does not start on the CPU of a machine that lacks its driver.
    """
    if count_processes(args) == 1:
        return
    if args.num_machines > 1:
        if not 0 <= args.machine_rank < args.num_machines:
            raise UsageError(
                f"--machine-rank {args.machine_rank}: expected 0 to {args.num_machines - 1}, as "
                f"there are {args.num_machines} machines (--num-machines)"
            )
        if args.dist_url == "auto":
            raise UsageError("--dist-url auto is for one machine: give several tcp://HOST:PORT")
    asked = any(word.split("=")[0] == key for word in getattr(args, "opts", ()))
    if args.num_gpus > torch.cuda.device_count() and not (asked and device == "cpu"):
        raise UsageError(
            f"--num-gpus {args.num_gpus}: torch sees {torch.cuda.device_count()} CUDA devices "
            f"here; to run {args.num_gpus} processes on the CPU, set {key} to cpu"
        )


def count_processes(args: Namespace) -> int:
    """Of the whole run, on all machines."""
    return max(args.num_gpus, 1) * args.num_machines


def check_norms(model: nn.Module, args: Namespace, device: str) -> None:
    """Raises UsageError for a norm that cannot be trained in several processes on a CPU."""
    if args.eval_only or device != "cpu" or count_processes(args) == 1:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise UsageError(
                f"{name} is a SyncBN, which PyTorch has for GPUs only; on a CPU take "
                "naiveSyncBN_N, which also shares its statistics, or a norm that does not"
            )


def _check_batch(cfg: CfgNode, args: Namespace) -> None:
    processes, solver = count_processes(args), cfg.SOLVER
    reference = solver.REFERENCE_WORLD_SIZE or processes
    if solver.IMS_PER_BATCH % reference:
        why = "SOLVER.REFERENCE_WORLD_SIZE"
        if not solver.REFERENCE_WORLD_SIZE:
            why = "the number of GPUs, or of processes, in all"
        raise UsageError(
            f"a batch of {solver.IMS_PER_BATCH} (SOLVER.IMS_PER_BATCH, --batch-size): expected a "
            f"multiple of {reference}, {why}"
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
