"""Memory and handles over long runs: ``python -m benchmarks.soak``.

A training and inferences of the demo's model on images of varying sizes. Resident memory is read
every 25 iterations; its slope after the warm-up is that of a least-squares line. The program also
counts the file descriptors and processes that are left at the end.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.engine import HookBase
from tabulate import tabulate

from nl_detectron.engine import Trainer, load_config
from nl_detectron.engine.hooks import versions
from nl_detectron.engine.loading import load_model

from .machine import machine

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "soak.json"
CONFIG = ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.yaml"
EVERY = 25  # iterations between readings
AIM = 1.0  # MiB of resident memory per 100 iterations
SIZES = (64, 160)  # shorter side of images, in pixels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--iterations", type=int, default=3000, help="of each case (3000)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    args = parser.parse_args()
    results = {name: run_alone(name, args.iterations) for name in args.cases}
    text = {"cases": results, "aim": AIM, "versions": versions(), "machine": machine()}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(text, indent=1) + "\n")
    print(format_table(results))


def format_table(results: dict[str, dict]) -> str:
    rows = [
        [
            name,
            result["iterations"],
            f"{result['slope']:+.2f}",
            "yes" if result["slope"] < AIM else "no",
            f"{result['last']:.0f}",
            f"{result['descriptors']:+d}",
            f"{result['processes']:+d}",
            f"{result['seconds']:.0f}",
        ]
        for name, result in results.items()
    ]
    heads = ["", "iterations", "MiB per 100", f"below {AIM}", "MiB at the end"]
    heads += ["descriptors left", "processes left", "seconds"]
    return tabulate(rows, heads, tablefmt="pipe", disable_numparse=True)


def run_alone(name: str, iterations: int) -> dict:
    """Run a case in a process of its own, so that no case sees another's caches."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "result.json"
        process = multiprocessing.get_context("spawn").Process(
            target=_run, args=(name, iterations, path)
        )
        process.start()
        process.join()
        if process.exitcode:
            raise SystemExit(f"{name} failed with exit code {process.exitcode}")
        return json.loads(path.read_text())


def _run(name: str, iterations: int, path: Path) -> None:
    meter = Meter(warm_up=iterations // 5)
    CASES[name](iterations, meter, path.parent)
    path.write_text(json.dumps({"iterations": iterations, **meter.result()}))


class Meter:
    """Reads the resident memory of this process and its workers after iterations."""

    def __init__(self, warm_up: int):
        self.warm_up, self.readings = warm_up, []
        self.before = self.began = None

    def read(self, iteration: int) -> None:
        """Take a reading if it is time for one; descriptors are counted from the first on."""
        if iteration % EVERY == 0:
            self.before = self.before or count_handles()
            self.began = self.began or time.perf_counter()
            self.readings.append((iteration, resident_mib()))

    def result(self) -> dict:
        settled = [(i, mib) for i, mib in self.readings if i >= self.warm_up]
        slope = np.polyfit(*np.array(settled, dtype=float).T, 1)[0] * 100
        descriptors, processes = count_handles()
        return {
            "slope": round(float(slope), 3),
            "first": round(settled[0][1], 1),
            "last": round(settled[-1][1], 1),
            "descriptors": descriptors - self.before[0],
            "processes": processes - self.before[1],
            "seconds": round(time.perf_counter() - self.began, 1),
            "readings": [(i, round(mib, 1)) for i, mib in self.readings],
        }


def resident_mib() -> float:
    """Resident memory of this process in MiB (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def count_handles() -> tuple[int, int]:
    """Open file descriptors and child processes of this process (Linux)."""
    children = sum(
        len(Path(f"/proc/self/task/{task}/children").read_text().split())
        for task in os.listdir("/proc/self/task")
    )
    return len(os.listdir("/proc/self/fd")), children


class MeterHook(HookBase):
    def __init__(self, meter: Meter):
        self.meter = meter

    def after_step(self) -> None:
        self.meter.read(self.trainer.iter + 1)


def train(iterations: int, meter: Meter, folder: Path, workers: int = 0) -> None:
    sizes = tuple(range(SIZES[0], SIZES[1] + 1, 16))
    opts = ["MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(folder / "run"), "SOLVER.IMS_PER_BATCH", "2"]
    opts += ["SOLVER.MAX_ITER", str(iterations), "SOLVER.CHECKPOINT_PERIOD", str(iterations // 4)]
    opts += ["INPUT.MIN_SIZE_TRAIN", str(sizes), "DATASETS.TEST", "()"]
    opts += ["DATALOADER.NUM_WORKERS", str(workers)]
    cfg = load_config(str(CONFIG), opts)
    os.makedirs(cfg.OUTPUT_DIR)
    trainer = Trainer(cfg)
    trainer.register_hooks([MeterHook(meter)])
    trainer.train()


def train_with_workers(iterations: int, meter: Meter, folder: Path) -> None:
    train(iterations, meter, folder, workers=2)


def infer(iterations: int, meter: Meter, folder: Path) -> None:
    model = load_model(load_config(str(CONFIG), ["MODEL.DEVICE", "cpu"])).model.eval()
    sizes = np.random.default_rng(1).integers(*SIZES, (iterations, 2), endpoint=True)
    for number, (height, width) in enumerate(sizes.tolist(), 1):
        image = torch.randint(0, 256, (3, height, 2 * width), dtype=torch.uint8)
        with torch.no_grad():
            model([{"image": image, "height": height, "width": 2 * width}])
        meter.read(number)


CASES = {
    "training, no workers": train,
    "training, 2 workers": train_with_workers,
    "inference": infer,
}

if __name__ == "__main__":
    main()
