#!/usr/bin/env python3
"""Train a Demo config on the relay data set, print its AP beside its twin's, draw predictions.

python tools/relay_demo.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml --seeds 1 2 3
"""

import json
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.options import add_config_file, add_overrides, make_parser
from nl_detectron_cli.program import run

RECORD = Path(__file__).parents[1] / "docs" / "relay_demo.json"  # benchmarks/demo_seeds.py's


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    for seed in args.seeds:
        opts = list(args.opts)
        if args.start_from:
            weights = run_folder(args.output, args.start_from, seed) / "model_final.pth"
            if not weights.exists():
                train_seed(args.start_from, seed, args.output)
            opts += ["MODEL.WEIGHTS", str(weights)]
        train_seed(args.config_file, seed, args.output, opts)


def parse_arguments(words: Sequence[str] | None) -> Namespace:
    parser = make_parser(__doc__)
    add_config_file(parser)
    parser.add_argument(
        "--seeds", "--seed", type=int, nargs="+", default=[1], metavar="N", help="one run for each"
    )
    parser.add_argument("--start-from", metavar="FILE", help="a Demo config to train first")
    parser.add_argument("--output", default="output/relay_demo", help="folder of all runs")
    add_overrides(parser)
    return parser.parse_args(words)


def run_folder(output: str, config_file: str, seed: int) -> Path:
    return Path(output) / Path(config_file).stem / f"seed{seed}"


def train_seed(config_file: str, seed: int, output: str, opts: Sequence[str] = ()) -> None:
    """Train a config with a seed, print its table and say where its picture is."""
    from nl_detectron.engine import load_config  # takes seconds, which --help need not
    from nl_detectron.relay_demo import format_table, train_relay_demo

    folder = run_folder(output, config_file, seed)
    cfg = load_config(config_file, [*opts, "SEED", str(seed), "OUTPUT_DIR", str(folder)])
    results = train_relay_demo(cfg)
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else []
    table = format_table(Path(config_file).stem, seed, results, recorded)
    print(f"\n{table}\n\nPredictions beside the truth: {folder}/predictions.png")
    if (folder / "attention.png").exists():
        print(f"What the block attends to: {folder}/attention.png")


if __name__ == "__main__":
    run(main)
