"""Sets up each process of a run."""

import logging
from argparse import Namespace
from copy import deepcopy

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from .atomic_files import remove_temporary_files
from .dataset_overrides import register_data
from .full_disk import quiet_full_logs, report_full_disk
from .loading import describe_run
from .run import Config, Run
from .run_lock import describe_owner, lock_folder
from .terminal import LOGGERS, set_up_loggers


def start_run(cfg: Config, args: Namespace) -> None:
    """Call Detectron2's ``default_setup`` (log files, seed, config.yaml) and log ``args.notes``.

    Every process of a run must call it, also because it registers the data sets of --dataset. The
    first process of a training locks the output folder. An evaluation in the folder of a training
    that runs leaves config.yaml and the log to it.

    Raises:
        UsageError: another run has the output folder, or it cannot be written.
    """
    register_data(getattr(args, "dataset", ()))
    run, rank = describe_run(cfg), comm.get_rank()
    notes: list[str] = list(getattr(args, "notes", ()))
    folder: str | None = run.output_dir
    evaluates = getattr(args, "eval_only", False)
    with report_full_disk(folder):
        if comm.is_main_process() and folder and not evaluates:
            notes += _take_folder(run)
        comm.synchronize()  # the other processes write nothing before
        if evaluates and (owner := describe_owner(folder)):
            notes.append(f"config.yaml and the log of {folder} are those of {owner}")
            cfg, folder = _without_output(cfg), None
        set_up_loggers(folder, rank)
        log = setup_logger(folder, distributed_rank=rank, name="nl_detectron", abbrev_name="nl")
        quiet_full_logs(map(logging.getLogger, LOGGERS))
        default_setup(cfg, Namespace(**{k: v for k, v in vars(args).items() if k != "notes"}))
    if folder:
        log.info("The config is in %s/config.yaml, all messages in log.txt beside it", folder)
    # One choice for the whole model: matrix products use TF32 if convs do, as they do by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    if run.device == "cpu":
        log.info("Running on the CPU")
    for note in notes:
        log.info(note)


def _without_output(cfg: Config) -> Config:
    cfg = deepcopy(cfg)
    if isinstance(cfg, CfgNode):
        cfg.defrost()
        cfg.OUTPUT_DIR = None
    else:
        cfg.train.output_dir = None
    return cfg


def _take_folder(run: Run) -> list[str]:
    """Lock and clean the output folder; returns lines on what a dead run has left in it."""
    taken = lock_folder(run.output_dir, run.keys["output_dir"])
    left = remove_temporary_files(run.output_dir)
    removed = f"removed {', '.join(left)}, which a run had not finished writing" if left else ""
    return [line for line in (taken, removed) if line]
