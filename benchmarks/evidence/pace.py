"""Seconds per iteration of every run, in turns: ``python -m benchmarks.evidence.pace``.

Runs of a sweep share the machine with whatever else it does at the time; here each model trains a
few iterations at a time, one after the other and again, so that all meet the same weather.
"""

import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage

from nl_detectron.engine import Trainer
from nl_detectron.engine.hooks import versions
from nl_detectron.modeling import build_model

from .runs import RUNS, Run
from .train import loader, save, to_memory_format

RESULT = Path(__file__).parent / "results" / "pace.json"
WARM_UP, ROUNDS, ITERATIONS = 2, 7, 2


def main() -> None:
    torch.set_num_threads(1)
    found = in_turns({name: stepper(run) for name, run in RUNS.items()})
    text = json.dumps({"seconds": found, "versions": versions()}, indent=1) + "\n"
    save(RESULT, lambda path: path.write_text(text))


def in_turns(steps: dict[str, Callable[[], None]]) -> dict[str, dict[str, float]]:
    """Median, least and most seconds of one step by name."""
    taken = {name: [] for name in steps}
    for number in range(-1, ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", flush=True)
        for name, step in steps.items():
            for _ in range(WARM_UP if number < 0 else ITERATIONS):
                began = time.perf_counter()
                step()
                if number >= 0:
                    taken[name].append(time.perf_counter() - began)
    kinds = {"median": statistics.median, "least": min, "most": max}
    return {n: {k: round(f(t), 4) for k, f in kinds.items()} for n, t in taken.items()}


def stepper(run: Run) -> Callable[[], None]:
    """One iteration of a run from fresh weights."""
    cfg = run.config(seed=1)
    seed_all_rng(1)
    model = to_memory_format(build_model(cfg), cfg)
    optimizer = Trainer.build_optimizer(cfg, model)
    trainer = SimpleTrainer(model.train(), loader(cfg, 1), optimizer)

    def step() -> None:
        with EventStorage():
            trainer.run_step()

    return step


if __name__ == "__main__":
    main()
