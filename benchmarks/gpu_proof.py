"""Test and measure everything that needs a GPU, in at most ten minutes: docs/gpu.md.

python -m benchmarks.gpu_proof             # without a GPU only the page is written
python -m benchmarks.gpu_proof --report    # only write the page, from benchmarks/results
python -m benchmarks.gpu_proof --quick     # tiny sizes into output/gpu_proof, also on a CPU

Each part runs in its own process with a time limit, so that one that fails or hangs does not affect
the others.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import torch

from . import bench_gpu, bench_padding, fresh, gpu_page
from .machine import follow_train_net, machine
from .run import ROOT, write

RESULTS, PAGE = ROOT / "results", ROOT.parent / "docs" / "gpu.md"
QUICK_FOLDER = Path("output") / "gpu_proof"
LIMIT = 600  # seconds of all parts together
RELAY = "configs/Demo/relay_mask_rcnn_nl.yaml"
TINY_RELAY = [
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_val',)"),
    *("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()", "SOLVER.IMS_PER_BATCH", "2"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes, to test that everything runs"
    )
    parser.add_argument(
        "--report", action="store_true", help="only write the page, from the results"
    )
    parser.add_argument("--part", choices=PARTS, help="run one part, in this process")
    parser.add_argument("--output", type=Path, help="folder of the results and of the page")
    args = parser.parse_args()
    folder = args.output or (QUICK_FOLDER if args.quick else None)
    results, page = (folder, folder / "gpu.md") if folder else (RESULTS, PAGE)
    follow_train_net()
    if args.part:
        write(results / "gpu_proof.json", args.part, records(args.part, args.quick), args.quick)
        return
    if not (args.report or args.quick or torch.cuda.is_available()):
        print("no CUDA device here: nothing was measured")
    elif not args.report:
        results.mkdir(parents=True, exist_ok=True)
        measure(results, args.quick)
    page.write_text(gpu_page.page(load(results)))
    print(f"wrote {page}")


def load(folder: Path) -> list[dict]:
    """Read the results of all cards."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("gpu_proof_*.json"))]


def measure(folder: Path, quick: bool) -> None:
    """Run all parts one after the other, and write the results after each."""
    began = time.perf_counter()
    result = {"quick": quick, "machine": machine(), "parts": {}}
    card = re.sub(r"\W+", "_", result["machine"]["device"].lower())
    results = folder / f"gpu_proof_{card}.json"
    for name, part in PARTS.items():
        with tempfile.TemporaryDirectory() as part_folder:
            command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu_proof"]
            command += ["--part", name, "--output", part_folder, *(["--quick"] if quick else [])]
            limit = min(part.limit, LIMIT - (time.perf_counter() - began))
            limit = 10 * LIMIT if quick else limit
            stopped = run(command, limit)
            file = Path(part_folder) / "gpu_proof.json"
            measured = json.loads(file.read_text())["records"] if file.exists() else []
        result["parts"][name] = {"records": measured, "stopped": stopped}
        result["took_seconds"] = round(time.perf_counter() - began, 1)
        results.write_text(json.dumps(result, indent=1) + "\n")


def run(command: Sequence[str], limit: float) -> str:
    """Run a command for at most ``limit`` seconds; after that, kill all its processes.

    Returns:
        "" if it succeeded, otherwise the reason why not.
    """
    if limit <= 0:
        return "no time was left"
    process = subprocess.Popen(command, cwd=ROOT.parent, start_new_session=True)
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return f"stopped after {limit:.0f} s" if code is None else f"exit code {code}" if code else ""


def records(name: str, quick: bool) -> Iterator[dict]:
    """Records of a part; if it fails, the last record has the reason."""
    try:
        yield from PARTS[name].records(quick)
    except Exception as error:
        traceback.print_exc()
        yield {"case": {"part": name}, "refused": {"the rest": fresh.in_one_line(error)}}


def test_records(quick: bool) -> Iterator[dict]:
    """Results of the tests marked gpu, which are skipped without a GPU."""
    yield run_tests("tests/layers/test_gpu.py" if quick else "tests")


def run_tests(where: str) -> dict:
    """Run the tests marked gpu in a file or folder; returns their counts and failures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "junit.xml"
        argv = ["-q", "-m", "gpu", "-p", "no:cacheprovider", f"--junitxml={file}", where]
        code = subprocess.run([sys.executable, "-m", "pytest", *argv], cwd=ROOT.parent).returncode
        if code == 5:  # pytest found no tests
            raise RuntimeError(f"{where} has no test that needs a GPU")
        suite = next(ElementTree.parse(file).iter("testsuite"))
    counts = {k: int(suite.get(k)) for k in ("tests", "failures", "errors", "skipped")}
    unsuccessful = [
        f"{case.get('classname')}.{case.get('name')}"
        for case in suite.iter("testcase")
        if case.find("failure") is not None or case.find("error") is not None
    ]
    seconds = float(suite.get("time"))
    return {"case": {"tests": where}, **counts, "unsuccessful": unsuccessful, "seconds": seconds}


def relay_records(quick: bool) -> Iterator[dict]:
    """Results of the relay demo, trained and evaluated as by `make demo`."""
    from nl_detectron.engine import load_config
    from nl_detectron.relay import Relay, register_split
    from nl_detectron.relay_demo import train_relay_demo

    if quick:
        relay = Relay(train=4, val=2, height=64, width=128, signal=9)
        for split in ("train", "val"):
            register_split(f"tiny_{split}", relay, split)
    with tempfile.TemporaryDirectory() as folder:
        opts = ["SEED", "1", "OUTPUT_DIR", folder, *(TINY_RELAY if quick else [])]
        results = train_relay_demo(load_config(RELAY, opts))
        yield {"case": {"config": RELAY, "seed": 1}, "results": results}


def process_records(quick: bool) -> Iterator[dict]:
    """Results of the tests that compare training in two processes by NCCL with one process."""
    if torch.cuda.device_count() < 2:
        raise RuntimeError(f"two GPUs are needed, and there are {torch.cuda.device_count()}")
    yield run_tests("tests/engine/test_distributed.py")


class Part(NamedTuple):
    """The function that yields a part's records, and the seconds that it may take."""

    records: Callable[[bool], Iterator[dict]]
    limit: float


PARTS = {
    "tests": Part(test_records, 130),
    "models": Part(bench_gpu.model_records, 180),
    "relay": Part(relay_records, 150),
    "blocks": Part(bench_gpu.block_records, 200),
    "padding": Part(bench_padding.records, 60),
    "processes": Part(process_records, 60),
}

if __name__ == "__main__":
    main()
