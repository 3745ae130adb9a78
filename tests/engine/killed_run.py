"""Trains on tiny_train and kills itself: ``python killed_run.py ITERATION ARGUMENTS``, with the
arguments of train_net.py."""

import os
import runpy
import signal
import sys

from config_kinds import ROOT, TINY

from nl_detectron.engine import Trainer
from nl_detectron.relay import SPLITS, register_split

step = Trainer.run_step


def run_step(trainer: Trainer) -> None:
    if trainer.iter == last:
        os.kill(os.getpid(), signal.SIGKILL)
    step(trainer)


if __name__ == "__main__":
    last = int(sys.argv.pop(1))
    Trainer.run_step = run_step
    for split in SPLITS:
        register_split(f"tiny_{split}", TINY["tiny"], split)
    runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
