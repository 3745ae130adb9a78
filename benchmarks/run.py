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
BENCHES = ("op", "block", "convs", "limit", "growth", "models", "evaluation", "video")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES, metavar="NAME")
    parser.add_argument(
        "--quick", action="store_true", help="tiny shapes, to test that everything runs"
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--image", type=int, nargs=2, metavar=("H", "W"), help="size of models' images"
    )
    parser.add_argument("--images", type=int, metavar="N", help="images to evaluate (5,000)")
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
        records = import_module(f".bench_{name}", __package__).records(args.quick, **options)
        write(folder / f"{name}.json", name, records, args.quick)


def write(path: Path, name: str, records: Iterator[dict], quick: bool) -> None:
    """Write the file after each record, so that an interrupted run keeps its results."""
    began = time.perf_counter()
    result = {"benchmark": name, "quick": quick, "machine": machine(), "records": []}
    for record in records:
        result["records"].append(record)
        result["took_seconds"] = round(time.perf_counter() - began, 1)
        part = path.with_suffix(".tmp")
        part.write_text(json.dumps(result, indent=1) + "\n")
        part.replace(path)  # so that the file is complete at any time
        print(f"{result['took_seconds']:7.1f} s  {name}: {describe(record)}", flush=True)


def describe(record: dict) -> str:
    """A record's case and the ways that were left out, in one line."""
    values = [str(value) for value in record["case"].values()]
    left_out = [f"[no {way}: {why}]" for way, why in record.get("refused", {}).items()]
    return " ".join([*values, *left_out])


if __name__ == "__main__":
    main()
