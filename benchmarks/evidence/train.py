"""Train one run: ``python -m benchmarks.evidence.train NAME --seed N``. It writes a small JSON."""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.data import build_detection_train_loader
from detectron2.engine import SimpleTrainer
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import EventStorage
from torch import nn

from nl_detectron.analysis import analyze
from nl_detectron.engine import Checkpointer, Trainer
from nl_detectron.engine.hooks import versions
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks

from .evaluate import Detections, evaluate
from .runs import OUTPUT, RUNS, Run, quick, register
from .settings import Schedule


class Folders(NamedTuple):
    """Folders of results: ``results`` for the JSON files, ``work`` for weights, logs and
    predictions, which may be deleted. With ``quick``, runs are the short versions."""

    results: Path
    work: Path
    quick: bool = False

    def run(self, name: str) -> Run:
        return quick(RUNS[name]) if self.quick else RUNS[name]

    def result(self, name: str, seed: int) -> Path:
        return self.results / f"{name}-seed{seed}.json"

    def weights(self, run: Run, seed: int) -> Path:
        return self.work / "weights" / f"{run.name}-seed{seed}-{run.key(seed)}.pth"


FULL = Folders(Path(__file__).parent / "results", OUTPUT)
QUICK = Folders(Path("output/evidence-quick/results"), Path("output/evidence-quick"), quick=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("name", choices=RUNS, metavar="NAME")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folders = QUICK if args.quick else FULL
    perform(folders.run(args.name), args.seed, folders)


def perform(run: Run, seed: int, folders: Folders) -> dict:
    """Train and evaluate a run; write its weights and its result."""
    began = time.perf_counter()
    cfg = run.config(seed, folders.work)
    model = build(run, cfg, seed, folders)
    result = {"run": run.name, "seed": seed, "key": run.key(seed)}
    result |= train(cfg, model, seed, run.schedule, register(run.watched, "val"))
    result["ap"] = evaluate(cfg, model, cfg.DATASETS.TEST[0])
    detections = Detections(cfg, cfg.DATASETS.TEST[0])
    result |= {"located": detections.located(), "right": detections.right()}
    if cfg.MODEL.MASK_ON:
        result["bands"] = detections.by_distance(run.bands)
    figures = analyze(cfg, run.data.height, run.data.width).figures
    result |= {"parameters": figures.parameters, "flops": figures.flops}
    result |= {"minutes": round((time.perf_counter() - began) / 60, 2), "versions": versions()}
    save(folders.weights(run, seed), lambda path: torch.save(model.state_dict(), path))
    text = json.dumps(result, indent=1) + "\n"
    save(folders.result(run.name, seed), lambda path: path.write_text(text))
    return result


def build(run: Run, cfg: CfgNode, seed: int, folders: Folders) -> nn.Module:
    """Build a run's model with its initial weights.

    Layers that two models share have equal weights under equal seeds, because blocks use separate
    random numbers.

    Raises:
        UsageError: the weights that the run starts from do not exist.
    """
    seed_all_rng(seed)
    model = to_memory_format(build_model(cfg), cfg)
    if run.start:
        weights = folders.weights(RUNS[run.start], seed)
        if not weights.exists():
            raise UsageError(f"{run.name} starts from {weights}; run {run.start} first")
        blocks = {n: deepcopy(b.state_dict()) for n, b in find_blocks(model).items()}
        Checkpointer(model).load(str(weights))
        if run.anew:
            for name, block in find_blocks(model).items():
                block.load_state_dict(blocks[name])
    return model


def to_memory_format(model: nn.Module, cfg: CfgNode) -> nn.Module:
    """Convert a model to channels last, which is a tenth faster on a CPU. Not with keypoints, as
    Detectron2's keypoint loss needs contiguous logits."""
    return model if cfg.MODEL.KEYPOINT_ON else model.to(memory_format=torch.channels_last)


def train(cfg: CfgNode, model: nn.Module, seed: int, plan: Schedule, watched: str) -> dict:
    """Train a model in place; returns the first losses, the curve, and how and when it ended.

    Args:
        cfg: the run's config.
        model: a model of that config.
        seed: seed of the batches.
        plan: schedule of learning rates and of evaluations.
        watched: name of the data set for evaluations during training.
    """
    optimizer = Trainer.build_optimizer(cfg, model)
    factors = [group["lr"] / cfg.SOLVER.BASE_LR for group in optimizer.param_groups]
    trainer = SimpleTrainer(model.train(), loader(cfg, seed), optimizer)
    first, curve, stopped = {}, [], "end"
    with EventStorage() as storage:
        for iteration in range(plan.iterations):
            for group, factor in zip(optimizer.param_groups, factors, strict=True):
                group["lr"] = plan.rate_at(iteration) * factor
            try:
                trainer.run_step()
            except FloatingPointError:
                stopped = "diverged"
                break
            storage.step()
            first = first or dict(_losses(storage, 1))
            done = iteration + 1
            if done % plan.every and done < plan.iterations:
                continue
            curve.append({"iteration": done, "losses": dict(_losses(storage, plan.every))})
            curve[-1]["ap"] = evaluate(cfg, model, watched)
            print(json.dumps(curve[-1]), flush=True)
    return {"iterations": storage.iter, "stopped": stopped, "first": first, "curve": curve}


def loader(cfg: CfgNode, seed: int) -> Iterator[list[dict]]:
    """Training batches, whose order and flips depend on the seed only."""
    seed_all_rng(seed)
    return build_detection_train_loader(cfg)


def _losses(storage: EventStorage, last: int) -> Iterator[tuple[str, float]]:
    """Mean of each loss over the last iterations."""
    for name, history in storage.histories().items():
        if "loss" in name:
            yield name, round(float(history.avg(last)), 4)


def save(path: Path, write: Callable[[Path], object]) -> None:
    """Write a temporary file and rename it, so that a file that exists is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    write(part)
    part.rename(path)


if __name__ == "__main__":
    main()
