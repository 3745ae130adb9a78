"""Checks before a run, which report a user's mistakes before any work is done."""

import logging
import os
from argparse import Namespace
from typing import IO, cast

import torch
from detectron2.utils.file_io import PathManager
from torch import nn

from ..errors import UsageError
from .checkpoint import read_checkpoint
from .config_checks import check_config
from .data_checks import check_dataset
from .loading import build_on_meta, describe_run
from .mixed_precision import check_precision
from .pictures import check_pictures
from .run import Config, Run

logger = logging.getLogger(__name__)


def preflight(cfg: Config, args: Namespace) -> None:
    """Check the config, devices, data sets and weights of a run before it starts.

    Args:
        cfg: the config, as of :func:`config_from_args`.
        args: the command line, as of :func:`argument_parser` or Detectron2's
            ``default_argument_parser``.

    Raises:
        UsageError: the run cannot start; the message says what to do.
    """
    check_config(cfg)
    run, training = describe_run(cfg), not args.eval_only
    _check_processes(run, args)
    check_precision(run.amp, run.amp_dtype, run.device, run.keys["amp_dtype"])
    if training:
        check_pictures(run)
        _check_batch(run, args)
    for name in filter(None, (*(run.train_sets if training else ()), *run.test_sets)):
        check_dataset(name)
    run.check(training)
    _check_norms(_build_model(cfg), run, args)
    _check_weights(run, args)


def _check_processes(run: Run, args: Namespace) -> None:
    """Raises UsageError for more processes than GPUs, or a rank that ``--num-machines`` excludes.

    Several processes on the CPU need an override that asks for it, so that a run for GPUs does not
    start on the CPU of a machine without a driver.
    """
    if _count_processes(args) == 1:
        return
    if args.num_machines > 1:
        if not 0 <= args.machine_rank < args.num_machines:
            raise UsageError(
                f"--machine-rank {args.machine_rank}: expected 0 to {args.num_machines - 1}, as "
                f"there are {args.num_machines} machines (--num-machines)"
            )
        if args.dist_url == "auto":
            raise UsageError(
                "--dist-url auto is for one machine; for several, give tcp://HOST:PORT"
            )
    key = run.keys["device"]
    asked = any(override.split("=")[0] == key for override in getattr(args, "opts", ()))
    if args.num_gpus > torch.cuda.device_count() and not (asked and run.device == "cpu"):
        raise UsageError(
            f"--num-gpus {args.num_gpus}: torch sees {torch.cuda.device_count()} CUDA devices "
            f"here; to run {args.num_gpus} processes on the CPU, set {key} to cpu"
        )


def _count_processes(args: Namespace) -> int:
    """Number of processes of the run on all machines."""
    return max(args.num_gpus, 1) * args.num_machines


def _check_batch(run: Run, args: Namespace) -> None:
    reference = run.reference_world_size or _count_processes(args)
    if run.batch_size % reference:
        why = "the number of processes (one for each GPU) on all machines"
        if run.reference_world_size:
            why = "SOLVER.REFERENCE_WORLD_SIZE"
        raise UsageError(
            f"a batch of {run.batch_size} images ({run.keys['batch_size']}): expected a multiple "
            f"of {reference}, {why}"
        )


def _build_model(cfg: Config) -> nn.Module:
    """Build the model without values. Raises UsageError for a config that describes none."""
    try:
        return build_on_meta(cfg)
    except UsageError:
        raise
    except Exception as error:  # layers raise anything for sizes that they cannot have
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UsageError(f"this config describes no model: {reason}") from error


def _check_norms(model: nn.Module, run: Run, args: Namespace) -> None:
    """Raises UsageError for a norm that cannot be trained in several processes on a CPU."""
    if args.eval_only or run.device != "cpu" or _count_processes(args) == 1:
        return
    for name, module in model.named_modules():
        if isinstance(module, nn.SyncBatchNorm):
            raise UsageError(
                f"{name} is a SyncBN, which PyTorch has for GPUs only; on a CPU use "
                "naiveSyncBN_N, which also shares its statistics, or a norm that does not"
            )


def _check_weights(run: Run, args: Namespace) -> None:
    """Raises UsageError for weights that are missing or cannot be read. With --resume it checks the
    last checkpoint in the output folder instead."""
    path, last = run.weights, os.path.join(run.output_dir, "last_checkpoint")
    if args.resume:
        if PathManager.isfile(last):
            with cast(IO[str], PathManager.open(last)) as file:
                path = os.path.join(run.output_dir, file.read().strip())
        else:
            logger.warning("--resume: no checkpoint in %s, so a new run starts", run.output_dir)
    if path:
        read_checkpoint(path)
    elif args.eval_only:
        key = run.keys["weights"]
        raise UsageError(f"--eval-only needs {key}, or --resume and a run's output folder")
