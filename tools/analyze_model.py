#!/usr/bin/env python3
"""Print what a model and its non-local blocks cost: parameters, FLOPs, activation memory.

python tools/analyze_model.py \
    --config-file configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml \
    --compare configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml
"""

import argparse
import json
import sys
from dataclasses import asdict, astuple
from pathlib import Path

from tabulate import tabulate

from nl_detectron.analysis import Analysis, Figures, analyze
from nl_detectron.engine import UsageError, add_dataset_argument, load_config

HEADERS = ["", "C -> D", "form", "sum", "parameters", "GFLOPs", "activations, MB"]


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    add_dataset_argument(parser)
    parser.add_argument("--compare", metavar="FILE", help="a second config, such as the twin's")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[800, 1344], metavar=("H", "W"), help="of the image"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        help="KEY VALUE overrides at the end, of both configs; MODEL.NONLOCAL's of the first alone",
    )
    args = parser.parse_args(words)
    if args.json and (args.json.is_dir() or not args.json.parent.is_dir()):
        raise UsageError(f"--json {args.json}: expected a file in a folder that exists")
    found = {Path(args.config_file).stem: analyzed(args.config_file, args, args.opts)}
    if args.compare:
        twin, name = analyzed(args.compare, args, of_both(args.opts)), Path(args.compare).stem
        found[f"{name} (compared)" if name in found else name] = twin
    print(table(found, args.size))
    if args.json:
        args.json.write_text(json.dumps(as_json(found, args.size), indent=2) + "\n")


def analyzed(file: str, args: argparse.Namespace, opts: list[str]) -> Analysis:
    cfg = load_config(file, opts, args.dataset)
    try:
        return analyze(cfg, *args.size)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def of_both(opts: list[str]) -> list[str]:
    """The overrides that a twin shares."""
    pairs = zip(opts[::2], opts[1::2], strict=True)
    return [w for pair in pairs if not pair[0].startswith("MODEL.NONLOCAL") for w in pair]


def table(found: dict[str, Analysis], size: list[int]) -> str:
    """Each block, each model, and the difference between two models."""
    rows = []
    for name, analysis in found.items():
        for block in analysis.blocks:
            channels = f"{block.channels[0]} -> {block.channels[1]}"
            rows.append([block.name, channels, block.pairwise, block.way, *shown(block.figures)])
        rows.append([name, "", "", "", *shown(analysis.figures)])
    if len(found) == 2:
        ours, twin = (analysis.figures for analysis in found.values())
        more = ours.minus(twin)
        percent = [
            f"{100 * a / b:+.2f} %" for a, b in zip(*map(astuple, (more, twin)), strict=True)
        ]
        rows.append(["difference", "", "", "", *shown(more, "+")])
        rows.append(["difference, percent", "", "", "", *percent])
    # tabulate would read "+2,099,712" and align it as text
    right = ("left",) * 4 + ("right",) * 3
    body = tabulate(rows, headers=HEADERS, colalign=right, disable_numparse=True)
    units = "a FLOP is a multiply-add, an MB 10^6 bytes"
    return f"One image of {size[0]} x {size[1]}; {units}\n\n{body}"


def shown(figures: Figures, sign: str = "") -> list[str]:
    return [
        f"{figures.parameters:{sign},}",
        f"{figures.flops / 1e9:{sign},.2f}",
        f"{figures.activations / 1e6:{sign},.1f}",
    ]


def as_json(found: dict[str, Analysis], size: list[int]) -> dict:
    models = {name: asdict(analysis) for name, analysis in found.items()}
    return {"image": size, "models": models}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"analyze_model.py: error: {error}")
