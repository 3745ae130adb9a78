"""What each process of a run does first."""

from argparse import Namespace

import torch
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from .dataset_overrides import register_data
from .loading import describe_run
from .run import Config


def start_run(cfg: Config, args: Namespace) -> None:
    """Detectron2's ``default_setup`` (log files, seed, config.yaml) and our own log lines.

    In each process of a run, of which the first alone may know the data sets of --dataset before.
    """
    register_data(getattr(args, "dataset", ()))
    notes = getattr(args, "notes", ())
    default_setup(cfg, Namespace(**{k: v for k, v in vars(args).items() if k != "notes"}))
    # One choice for all of a model: matrix products take TF32 where convs do, as by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    run, rank = describe_run(cfg), comm.get_rank()
    log = setup_logger(run.output_dir, distributed_rank=rank, name="nl_detectron", abbrev_name="nl")
    if run.device == "cpu":
        log.info("Running on the CPU")
    for note in notes:
        log.info(note)
