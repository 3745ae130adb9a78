"""One training by ``train`` in a process of its own: its command, progress and results."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import yaml
from detectron2.config import CfgNode

from ..engine import load_config, scale_batch
from ..engine.checkpoint_files import list_checkpoints
from ..engine.config_files import show_config
from ..engine.config_values import flatten, flatten_config
from ..errors import UsageError
from ..model_zoo.zoo import CONFIGS

TRAIN_NET = Path(__file__).parents[2] / "train_net.py"  # in a clone
MODULE = ("nl_detectron_cli", "train")  # the same in a wheel
# what may change between a run and its continuation
MAY_DIFFER = ("OUTPUT_DIR", "MODEL.DEVICE", "VISUALIZE.")
MEASURED_ITERATIONS = 20  # Detectron2 does not time the first two


class RunFailed(UsageError):
    """A run that ended with an error; the message names its log."""


@dataclass(frozen=True)
class TrainingRun:
    """One training.

    Attributes:
        config: file below configs/.
        opts: KEY VALUE overrides.
        seed: its SEED.
        folder: its OUTPUT_DIR.
        num_gpus: 0 for the CPU.
    """

    config: str
    opts: Sequence[str]
    seed: int
    folder: Path
    num_gpus: int

    def __str__(self) -> str:
        return f"{Path(self.config).stem}, seed {self.seed}"

    @property
    def overrides(self) -> list[str]:
        """All overrides, those of seed and folder included."""
        return [*self.opts, "SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]

    @cached_property
    def cfg(self) -> CfgNode:
        """The whole config."""
        return load_config(str(CONFIGS / self.config), self.overrides)

    @property
    def command(self) -> list[str]:
        """Trains it, or continues from its last checkpoint."""
        file = show_config(CONFIGS / self.config)
        script = [os.path.relpath(TRAIN_NET)] if TRAIN_NET.is_file() else ["-m", *MODULE]
        start = [sys.executable, *script, "--config-file", file]
        resume = ["--resume"] if list_checkpoints(str(self.folder)) else []
        return [*start, "--num-gpus", str(self.num_gpus), *resume, *self.overrides]

    @property
    def command_line(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.command)

    @property
    def console(self) -> Path:
        """All output of the process, beside Detectron2's log.txt."""
        return self.folder / "console.txt"

    @property
    def summary(self) -> dict[str, Any]:
        """The content of summary.json; empty before the end of the run."""
        try:
            return json.loads((self.folder / "summary.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):  # the latter: stopped while writing it
            return {}

    @property
    def finished(self) -> bool:
        """Whether it was trained and evaluated."""
        return bool(self.summary.get("results"))

    @property
    def iterations_done(self) -> int:
        """Iterations that need not be trained again."""
        if self.finished or (self.folder / "model_final.pth").exists():
            return self.cfg.SOLVER.MAX_ITER
        names = (re.fullmatch(r"model_(\d+)\.pth", file.name) for file in self.folder.glob("*.pth"))
        return max((int(name[1]) + 1 for name in names if name), default=0)

    @property
    def state(self) -> str:
        """How far it is, in words."""
        if self.finished:
            return "finished"
        return f"{self.iterations_done:,} of {self.cfg.SOLVER.MAX_ITER:,} iterations done"

    def check_folder(self) -> None:
        """Raises UsageError where the folder holds a run of other settings, which is kept."""
        file = self.folder / "config.yaml"
        if self.finished:
            text = self.summary["config"]
        elif self.iterations_done and file.exists():
            text = file.read_text()
        else:
            return
        there, here = flatten(yaml.safe_load(text)), flatten_config(self.cfg)
        shared = there.keys() & here.keys()  # another version may have other keys
        other = [k for k in sorted(shared) if there[k] != here[k] and not k.startswith(MAY_DIFFER)]
        if other:
            differences = ", ".join(f"{k} {there[k]} there and {here[k]} here" for k in other)
            raise UsageError(
                f"{self.folder} holds a run with other settings ({differences}); give another "
                "--output, or the --num-gpus and --opts of that run"
            )

    def train(self) -> None:
        """Run the command and wait for it.

        Raises:
            RunFailed: it exits with an error.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.console.open("a") as log:
            code = subprocess.run(self.command, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            last = self.console.read_text(errors="replace").strip().rpartition("\n")[2]
            raise RunFailed(f"{self} failed (exit code {code}): {last}; its log: {self.console}")

    def measure(self) -> tuple[float, float]:
        """Seconds an iteration and peak memory in MiB, by training for a few iterations.

        Raises:
            RunFailed: it does not train.
        """
        iterations = max(3, min(MEASURED_ITERATIONS, self.cfg.SOLVER.MAX_ITER))
        changes = {
            "SOLVER.MAX_ITER": iterations,
            "SOLVER.STEPS": "()",
            "SOLVER.BASE_LR": 1e-6,  # a full rate without its warm-up could diverge
            "DATASETS.TEST": "()",
        }
        more = [str(word) for pair in changes.items() for word in pair]
        folder = self.folder.parent / "measured"
        shutil.rmtree(folder, ignore_errors=True)
        trial = replace(self, opts=[*self.opts, *more], folder=folder)
        trial.train()
        for checkpoint in folder.glob("*.pth"):
            checkpoint.unlink()
        return trial.summary["seconds_per_iteration"], trial.summary["peak_memory_mib"]


def scale_overrides(
    file: Path, opts: Sequence[str], num_gpus: int, reference: int
) -> tuple[str, ...]:
    """Overrides that also scale a config to the number of GPUs (:func:`scale_batch`).

    Fewer GPUs take a smaller batch at a lower rate for more iterations. The scaled values are
    spelled out, so that every command shows what it trains and a run is not continued at another
    scale.

    Args:
        file: the config.
        opts: overrides of it.
        num_gpus: 0 for the CPU, which counts as one.
        reference: the number of GPUs that the config's batch is for; 0: leave it as it is.

    Raises:
        UsageError: a batch that cannot be divided.
    """
    opts = [*(() if num_gpus else ("MODEL.DEVICE", "cpu")), *opts]
    cfg = load_config(str(file), ["SOLVER.REFERENCE_WORLD_SIZE", str(reference), *opts])
    reference, batch = cfg.SOLVER.REFERENCE_WORLD_SIZE, cfg.SOLVER.IMS_PER_BATCH
    if reference and batch % reference:
        raise UsageError(
            f"SOLVER.IMS_PER_BATCH is the batch of {reference} GPUs, whatever --num-gpus: expected "
            f"a multiple of {reference}, got {batch}"
        )
    if not reference:
        return tuple(opts)
    cfg = cast(CfgNode, scale_batch(cfg, batch // reference * max(num_gpus, 1)))
    before, after = flatten_config(load_config(str(file), opts)), flatten_config(cfg)
    changed = [(key, str(value)) for key, value in after.items() if before[key] != value]
    return (*opts, *(word for pair in changed for word in pair))
