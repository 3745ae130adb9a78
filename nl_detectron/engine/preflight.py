"""Checks before a run, which report a user's mistakes before any work is done."""

import logging
import os
from argparse import Namespace
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from torch import nn

from ..config import is_video
from ..errors import UsageError
from .block_records import KEY, check_blocks
from .checkpoint import read_checkpoint
from .checkpoint_files import choose_checkpoint
from .config_checks import check_config
from .data_checks import check_dataset, check_files
from .full_disk import format_size, free_space
from .loading import build_on_meta, describe_run
from .mixed_precision import check_precision
from .pictures import check_pictures
from .resume_checks import check_resumed
from .run import Config, Run
from .weight_match import check_match, match_weights

logger = logging.getLogger(__name__)
Built = TypeVar("Built")


def preflight(cfg: Config, args: Namespace) -> None:
    """Check the config, devices, output folder, data sets and weights of a run before it starts. It
    writes nothing.

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
    _check_output_dir(run)
    check_precision(run.amp, run.amp_dtype, run.device, run.keys["amp_dtype"])
    if training:
        check_pictures(run)
        _check_batch(run, args)
        _check_max_to_keep(run)
    for name in filter(None, (*(run.train_sets if training else ()), *run.test_sets)):
        check_dataset(name)
    run.check(training)
    model = _attempt("no model", lambda: build_on_meta(cfg))
    _check_norms(model, run, args)
    _check_weights(model, run, args)
    if training:
        _attempt("no training", lambda: run.build_lr_scheduler(run.build_optimizer(model)))
        _attempt("no training samples", run.build_mapper)
        _check_space(model, run)
    if not getattr(args, "no_check", False):
        for name in filter(None, dict.fromkeys(run.test_sets)):
            check_files(name)
        for name in filter(None, run.train_sets if training else ()):
            check_files(name, run.max_bad_samples)


def announce(cfg: Config, args: Namespace) -> str:
    """One line about a run, to be printed before it is checked, which may take a while."""
    run = describe_run(cfg)
    where = f"on {run.device}" if args.num_gpus < 2 else f"in {args.num_gpus} processes"
    if args.eval_only:
        what = f"Evaluating on {', '.join(filter(None, run.test_sets)) or 'the test set'}"
    else:
        samples = "clips" if isinstance(cfg, CfgNode) and is_video(cfg) else "images"
        what = f"Training for {run.max_iter:,} iterations of {run.batch_size} {samples}"
    return f"{what} {where}, into {run.output_dir}; checking the run first"


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


def _attempt(what: str, build: Callable[[], Built]) -> Built:
    """Build a part of a run. Raises UsageError for a config that describes none."""
    try:
        return build()
    except UsageError:
        raise
    except Exception as error:  # layers, optimizers and transforms raise anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise UsageError(f"this config describes {what}: {reason}") from error


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


def _check_output_dir(run: Run) -> None:
    """Raises UsageError for an output folder that cannot be made or written."""
    key, folder = run.keys["output_dir"], run.output_dir
    if not folder or "://" in folder:
        raise UsageError(
            f"{key}: expected a folder of this machine for the run's files, got {folder!r}"
        )
    there = os.path.abspath(folder)
    while not os.path.lexists(there):
        there = os.path.dirname(there)
    if not os.path.isdir(there):
        raise UsageError(f"{key} {folder}: {there} is not a folder; give another one")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UsageError(
            f"{key} {folder}: {there} cannot be written by this user; give another one"
        )


def _check_max_to_keep(run: Run) -> None:
    keep = run.checkpoints.get("max_to_keep")
    if keep is not None and (type(keep) is not int or keep < 0):
        raise UsageError(
            f"{run.keys['max_to_keep']}: expected a number of checkpoints, or 0 to keep all, got "
            f"{keep!r}"
        )


def _check_space(model: nn.Module, run: Run) -> None:
    """Raises UsageError if not even the weights of one checkpoint fit onto the disk."""
    needed, free = sum(t.nbytes for t in model.state_dict().values()), free_space(run.output_dir)
    if free < needed:
        raise UsageError(
            f"{run.keys['output_dir']} {run.output_dir}: {format_size(free)} are free there, but a "
            f"checkpoint takes more than {format_size(needed)}; make room, or give another folder"
        )


def _check_weights(model: nn.Module, run: Run, args: Namespace) -> None:
    """Raises UsageError for weights that are missing or cannot be used. With --resume it checks the
    checkpoint that the run continues from instead."""
    path = run.weights
    if args.resume:
        found = choose_checkpoint(run.output_dir, read_checkpoint)
        if found and args.eval_only:
            _check_content(model, run, args, *found)
        elif found:
            check_resumed(run, model, *found)
        if found:
            return
        logger.warning("--resume: no checkpoint in %s, so a new run starts", run.output_dir)
    if path:
        _check_content(model, run, args, path, read_checkpoint(path))
    elif args.eval_only:
        key = run.keys["weights"]
        raise UsageError(f"--eval-only needs {key}, or --resume and a run's output folder")


def _check_content(
    model: nn.Module, run: Run, args: Namespace, path: str, content: dict[str, Any]
) -> None:
    """Raises UsageError for weights of another project or, in an evaluation, of other blocks."""
    tensors, match = match_weights(model, content, path)
    check_match(match, path, run.keys["weights"])
    if args.eval_only:
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        check_blocks(run, model, path, content.get(KEY), shapes)
