"""Sets up each process of a run."""

import logging
from argparse import Namespace

import torch
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from .atomic_files import remove_temporary_files
from .dataset_overrides import register_data
from .full_disk import quiet_full_logs, report_full_disk
from .loading import describe_run
from .run import Config, Run
from .run_lock import lock_folder
from .terminal import LOGGERS, set_up_loggers


def start_run(cfg: Config, args: Namespace) -> None:
    """Call Detectron2's ``default_setup`` (log files, seed, config.yaml) and log ``args.notes``.

    Every process of a run must call it, also because it registers the data sets of --dataset. The
    first process of a training locks the output folder.

    Raises:
        UsageError: another run has the output folder, or it cannot be written.
    """
    register_data(getattr(args, "dataset", ()))
    run, rank = describe_run(cfg), comm.get_rank()
    notes = list(getattr(args, "notes", ()))
    with report_full_disk(run.output_dir):
        if comm.is_main_process() and run.output_dir and not getattr(args, "eval_only", False):
            notes += _take_folder(run)
        comm.synchronize()  # the other processes write nothing before
        set_up_loggers(run.output_dir, rank)
        default_setup(cfg, Namespace(**{k: v for k, v in vars(args).items() if k != "notes"}))
        log = setup_logger(
            run.output_dir, distributed_rank=rank, name="nl_detectron", abbrev_name="nl"
        )
    quiet_full_logs(map(logging.getLogger, LOGGERS))
    log.info("The config is in %s/config.yaml, all messages in log.txt beside it", run.output_dir)
    # One choice for the whole model: matrix products use TF32 if convs do, as they do by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    if run.device == "cpu":
        log.info("Running on the CPU")
    for note in notes:
        log.info(note)


def _take_folder(run: Run) -> list[str]:
    """Lock and clean the output folder; returns lines on what a dead run has left in it."""
    taken = lock_folder(run.output_dir, run.keys["output_dir"])
    left = remove_temporary_files(run.output_dir)
    removed = f"removed {', '.join(left)}, which a run had not finished writing" if left else ""
    return [line for line in (taken, removed) if line]
