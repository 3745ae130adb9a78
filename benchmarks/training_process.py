"""A small training in processes of its own, which :mod:`.faults` strikes and resumes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PATIENCE = 600  # seconds that a run may take


@dataclass
class Training:
    """A training in processes of its own, in its own folder."""

    folder: Path
    data: Path
    workers: int
    processes: int
    process: subprocess.Popen = field(init=False)

    def start(self) -> "Training":
        sets = (
            f"faults_{part}={self.data / part}.json:{self.data / part}" for part in ("train", "val")
        )
        thin = {
            "MODEL.DEVICE": "cpu",
            "MODEL.RESNETS.WIDTH_PER_GROUP": 4,
            "MODEL.RESNETS.RES2_OUT_CHANNELS": 16,
            "INPUT.MIN_SIZE_TRAIN": "(64,)",
            "INPUT.MIN_SIZE_TEST": 64,
            "SOLVER.IMS_PER_BATCH": 4,
            "SOLVER.MAX_ITER": 40,
            "SOLVER.CHECKPOINT_PERIOD": 4,
            "TEST.EVAL_PERIOD": 16,
            "DATALOADER.NUM_WORKERS": self.workers,
            "OUTPUT_DIR": self.folder,
        }
        words = [sys.executable, "train_net.py", "--resume"]
        words += ["--config-file", "configs/Demo/relay_mask_rcnn_nl.yaml"]
        words += ["--num-gpus", str(self.processes), "--dist-url", "auto"]
        words += [word for one in sets for word in ("--dataset", one)]
        words += [str(word) for pair in thin.items() for word in pair]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "console.txt").open("a") as console:
            self.process = subprocess.Popen(
                words, cwd=ROOT, stdout=console, stderr=console, start_new_session=True
            )
        return self

    @property
    def console(self) -> str:
        return (self.folder / "console.txt").read_text()

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def wait_for(self, happened: Callable[[], Any], pause: float = 0.01) -> bool:
        """Wait until something has happened; False if the run ends before."""
        while not happened():
            if self.process.poll() is not None:
                return False
            time.sleep(pause)
        return True

    def wait_for_all(self) -> int:
        """Wait for all processes, workers too; returns the exit code."""
        code = self.process.wait(PATIENCE)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            try:
                os.killpg(self.process.pid, 0)
            except ProcessLookupError:
                return code
            time.sleep(0.05)
        raise TimeoutError(f"processes of {self.folder} have outlived the first one")
