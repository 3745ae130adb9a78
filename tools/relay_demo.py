#!/usr/bin/env python3
"""Train a Demo config on the relay data set, print its AP beside its twin's, draw what it finds and
where its block looks.

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

EVAL_PERIOD = 100  # iterations: some points of a curve; training itself goes as without them
DOCS = Path(__file__).parents[1] / "docs"
# of benchmarks/demo_seeds.py and benchmarks/video_seeds.py
RECORDS = (DOCS / "relay_demo.json", DOCS / "relay_video.json")
# overrides that the options of this program set, and these options
OWN = {"SEED": "--seeds", "OUTPUT_DIR": "--output"}


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
    args = parser.parse_args(words)
    for key, option in OWN.items():
        if key in args.opts[::2]:
            parser.error(f"{key}: give {option} instead; each seed has a folder of its own")
    return args


def run_folder(output: str, config_file: str, seed: int) -> Path:
    return Path(output) / Path(config_file).stem / f"seed{seed}"


def train_seed(config_file: str, seed: int, output: str, opts: Sequence[str] = ()) -> None:
    """Train a config with a seed, print its table and say where its pictures are."""
    from nl_detectron.engine import load_config  # takes seconds, which --help need not
    from nl_detectron.relay_demo import ATTENTION, PREDICTIONS, format_table, train_relay_demo

    folder = run_folder(output, config_file, seed)
    words = ["TEST.EVAL_PERIOD", str(EVAL_PERIOD), *opts, "SEED", str(seed)]
    cfg = load_config(config_file, [*words, "OUTPUT_DIR", str(folder)])
    results = train_relay_demo(cfg)
    table = format_table(Path(config_file).stem, seed, results, recorded_runs())
    print(f"\n{table}\n")
    print(f"Loss and AP as it trained: python tools/plot_curves.py {folder}")
    print(f"Truth beside predictions: {folder / PREDICTIONS}")
    if (folder / ATTENTION).exists():
        print(f"Where the object looks, an arrow to its patch: {folder / ATTENTION}")


def recorded_runs() -> list[dict]:
    """Results of all runs in :data:`RECORDS` that came to their end."""
    runs = [run for file in RECORDS if file.exists() for run in json.loads(file.read_text())]
    return [run for run in runs if "error" not in run]


if __name__ == "__main__":
    run(main)
