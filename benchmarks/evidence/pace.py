"""Measures seconds per iteration of every run, in turns: ``python -m benchmarks.evidence.pace``.

The runs of a sweep share the machine with other work. Here, models train a few iterations each in
turns, so that changes in the machine's speed affect all alike.
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
    seconds = time_in_turns({name: build_step(run) for name, run in RUNS.items()})
    text = json.dumps({"seconds": seconds, "versions": versions()}, indent=1) + "\n"
    save(RESULT, lambda path: path.write_text(text))


def time_in_turns(steps: dict[str, Callable[[], None]]) -> dict[str, dict[str, float]]:
    """Median, smallest and largest seconds of one step, by name."""
    seconds = {name: [] for name in steps}
    for number in range(-1, ROUNDS):
        print(f"round {number + 1} of {ROUNDS}", flush=True)
        for name, step in steps.items():
            for _ in range(WARM_UP if number < 0 else ITERATIONS):
                began = time.perf_counter()
                step()
                if number >= 0:
                    seconds[name].append(time.perf_counter() - began)
    kinds = {"median": statistics.median, "least": min, "most": max}
    return {n: {k: round(f(s), 4) for k, f in kinds.items()} for n, s in seconds.items()}


def build_step(run: Run) -> Callable[[], None]:
    """Build a run's model; returns a function that trains it for an iteration."""
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
