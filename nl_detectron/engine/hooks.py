"""Hooks beyond Detectron2's: the best checkpoint across resumed runs, and a summary of the run."""

import json
import logging
import math
import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import detectron2
import numpy
import torch
import torchvision
from detectron2.engine import HookBase, hooks
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ..version import __version__
from .atomic_files import write_text
from .checkpoint_files import BEST, digest, read_trainer_state

logger = logging.getLogger(__name__)


class EvalHook(hooks.EvalHook):
    """Detectron2's ``EvalHook``, which here does not evaluate after a failed iteration.

    The evaluation would wait for other processes, which would not take part in it.
    """

    def after_train(self) -> None:
        if sys.exc_info()[0] is None:  # the trainer calls this in its finally clause
            super().after_train()


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's ``BestCheckpointer``, which here keeps the best result when a run is resumed."""

    def before_train(self) -> None:
        """Take over the best result of a resumed run. Its last checkpoint was saved before the
        evaluation of the same iteration, so the result may be in the best checkpoint only."""
        if not self.trainer.start_iter:
            return
        state = read_trainer_state(os.path.join(self._checkpointer.save_dir, f"{BEST}.pth"))
        if state.get("iteration", math.inf) < self.trainer.start_iter:
            saved = state.get("hooks", {}).get(type(self).__qualname__, {})
            known = -math.inf if self.best_metric is None else self.best_metric
            if (saved.get("best_metric") or -math.inf) > known:
                self.load_state_dict(saved)

    def after_train(self) -> None:
        if sys.exc_info()[0] is None:  # as in EvalHook
            super().after_train()

    def _best_checking(self) -> None:
        nothing = (math.nan, None)
        metric, iteration = self.trainer.storage.latest().get(self._val_metric, nothing)
        best = -math.inf if self.best_metric is None else self.best_metric
        if metric > best:
            self.best_metric, self.best_iter = metric, iteration  # first: the checkpoint has them
            self._checkpointer.save(self._file_prefix)

    def state_dict(self) -> dict[str, Any]:
        return {"best_metric": self.best_metric, "best_iter": self.best_iter}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_metric, self.best_iter = state["best_metric"], state["best_iter"]


class BadSampleCount(HookBase):
    """Adds up the bad samples of all processes when training ends, as ``trainer.bad_samples``.

    It must come before :class:`RunSummary`, in every process.
    """

    def after_train(self) -> None:
        trainer = cast(Any, self.trainer)
        if trainer.iter < trainer.max_iter:  # other processes may not come here
            return
        counted = getattr(trainer._trainer.data_loader, "bad_samples", 0)
        trainer.bad_samples = sum(comm.all_gather(counted))
        if trainer.bad_samples and comm.is_main_process():
            logger.warning("%d bad training sample(s) were replaced", trainer.bad_samples)


class RunSummary(HookBase):
    """Writes ``summary.json`` when training ends. It must come after the evaluation hook."""

    def __init__(self, output_dir: str, *, device: str, config: str):
        self.path = os.path.join(output_dir, "summary.json")
        self.checkpoint = os.path.join(output_dir, "model_final.pth")
        self.run = {"device": device, "config": config}

    def after_train(self) -> None:
        trainer = self.trainer
        if trainer.iter < trainer.max_iter:  # training stopped early
            return
        seconds = trainer.storage.histories().get("time")
        write_summary(
            self.path,
            getattr(trainer, "_last_eval_results", {}),
            checkpoint=self.checkpoint,
            **self.run,
            iterations=trainer.max_iter,
            bad_samples=getattr(trainer, "bad_samples", 0),
            seconds_per_iteration=seconds.global_avg() if seconds else None,
        )


def write_summary(
    path: str, results: dict, *, checkpoint: str, device: str, config: str, **more
) -> None:
    """Write results (AP in percent), the SHA-256 of their checkpoint file, versions, peak memory
    (MiB) and the whole config as JSON."""
    summary = {
        # JSON has no NaN, which is the AP of a size without objects
        "results": {k: None if v != v else v for k, v in flatten_results_dict(results).items()},
        "checkpoint": digest(checkpoint) if PathManager.isfile(checkpoint) else None,
        **more,
        "peak_memory_mib": peak_memory_mib(device),
        "device": device,
        "versions": versions(),
        "commit": commit(),
        "config": config,
    }
    write_text(path, json.dumps(summary, indent=2))


def peak_memory_mib(device: str) -> float:
    """Peak memory of this process in MiB: allocated on a CUDA device, or resident on the CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def versions() -> dict[str, str]:
    """Versions of the packages that a result depends on."""
    return {
        "nl_detectron": __version__,
        "detectron2": detectron2.__version__,
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "numpy": numpy.__version__,
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """Commit of the clone that this code is in, with "+" if files were changed; None in a wheel."""
    clone = Path(__file__).parents[2]
    if not (clone / ".git").exists():
        return None
    arguments = ["describe", "--always", "--abbrev=40", "--exclude=*", "--dirty=+"]
    command = ["git", "-C", clone, *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):  # no git, or another user's clone
        return None
