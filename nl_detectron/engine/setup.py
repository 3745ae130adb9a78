"""Sets up each process of a run."""

from argparse import Namespace

import torch
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from .dataset_overrides import register_data
from .loading import describe_run
from .run import Config


def start_run(cfg: Config, args: Namespace) -> None:
    """Call Detectron2's ``default_setup`` (log files, seed, config.yaml) and log ``args.notes``.

    Every process of a run must call it, also because it registers the data sets of --dataset.
    """
    register_data(getattr(args, "dataset", ()))
    notes = getattr(args, "notes", ())
    default_setup(cfg, Namespace(**{k: v for k, v in vars(args).items() if k != "notes"}))
    # One choice for the whole model: matrix products use TF32 if convs do, as they do by default.
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32
    run, rank = describe_run(cfg), comm.get_rank()
    log = setup_logger(run.output_dir, distributed_rank=rank, name="nl_detectron", abbrev_name="nl")
    if run.device == "cpu":
        log.info("Running on the CPU")
    for note in notes:
        log.info(note)
