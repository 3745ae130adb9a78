"""Run benchmarks and write their results.

python -m benchmarks.run [--only op block] [--quick]
"""

import argparse
import json
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import torch

from .machine import machine

ROOT = Path(__file__).parent
BENCHES = ("op", "block", "convs", "limit", "growth", "models", "evaluation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="tiny shapes, to see that it all runs")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--image", type=int, nargs=2, metavar=("H", "W"), help="of the models")
    parser.add_argument("--images", type=int, metavar="N", help="of the evaluation (5,000)")
    parser.add_argument(
        "--output", type=Path, help="folder of the results (benchmarks/results; quick: output/...)"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = args.output or (Path("output/benchmarks") if args.quick else ROOT / "results")
    folder.mkdir(parents=True, exist_ok=True)
    for name in args.only:
        own = {"models": ("image", args.image), "evaluation": ("images", args.images)}
        options = dict([own[name]] if name in own and own[name][1] else [])
        found = import_module(f".bench_{name}", __package__).records(args.quick, **options)
        write(folder / f"{name}.json", name, found, args.quick)


def write(path: Path, name: str, records: Iterator[dict], quick: bool) -> None:
    """Each record as it comes, so that an interrupted run keeps what it has."""
    began = time.perf_counter()
    result = {"benchmark": name, "quick": quick, "machine": machine(), "records": []}
    for record in records:
        result["records"].append(record)
        result["took_seconds"] = round(time.perf_counter() - began, 1)
        aside = path.with_suffix(".tmp")
        aside.write_text(json.dumps(result, indent=1) + "\n")
        aside.replace(path)  # whole at any time
        print(f"{result['took_seconds']:7.1f} s  {name}: {describe(record)}", flush=True)


def describe(record: dict) -> str:
    words = [str(value) for value in record["case"].values()]
    return " ".join([*words, *(f"[no {w}: {why}]" for w, why in record.get("refused", {}).items())])


if __name__ == "__main__":
    main()
