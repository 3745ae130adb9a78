#!/usr/bin/env python3
"""Train a Demo config on the relay data set, print its AP beside its twin's, draw predictions.

python tools/relay_demo.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml --seeds 1 2 3
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.relay_demo import format_table, train_relay_demo

RECORD = Path(__file__).parents[1] / "docs" / "relay_demo.json"  # benchmarks/demo_seeds.py's


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--start-from", metavar="FILE", help="a Demo config to train first")
    parser.add_argument("--output", default="output/relay_demo", help="folder of all runs")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE overrides")
    args = parser.parse_args()
    for seed in args.seeds:
        opts = list(args.opts)
        if args.start_from:
            weights = run_folder(args.output, args.start_from, seed) / "model_final.pth"
            if not weights.exists():
                train_seed(args.start_from, seed, args.output)
            opts += ["MODEL.WEIGHTS", str(weights)]
        train_seed(args.config_file, seed, args.output, opts)


def run_folder(output: str, config_file: str, seed: int) -> Path:
    return Path(output) / Path(config_file).stem / f"seed{seed}"


def train_seed(config_file: str, seed: int, output: str, opts: Sequence[str] = ()) -> None:
    """Train a config with a seed, print its table and say where its picture is."""
    folder = run_folder(output, config_file, seed)
    cfg = load_config(config_file, [*opts, "SEED", str(seed), "OUTPUT_DIR", str(folder)])
    results = train_relay_demo(cfg)
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else []
    table = format_table(Path(config_file).stem, seed, results, recorded)
    print(f"\n{table}\n\nPredictions beside the truth: {folder}/predictions.png")


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"relay_demo.py: error: {error}")
