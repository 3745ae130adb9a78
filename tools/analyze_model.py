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
from nl_detectron.engine import add_dataset_argument, load_config
from nl_detectron.errors import UsageError

HEADERS = ["", "C -> D", "form", "sum", "parameters", "GFLOPs", "activations, MB"]
ON_GPU = "on a GPU, MB"


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    add_dataset_argument(parser)
    parser.add_argument("--compare", metavar="FILE", help="a second config, such as the twin's")
    parser.add_argument(
        "--size", type=int, nargs=2, default=[800, 1344], metavar=("H", "W"), help="of the image"
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: the activations that a GPU keeps in float32, too; it need not be there",
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
    devices = ("cpu", "cuda") if args.device == "cuda" else ("cpu",)
    found = {Path(args.config_file).stem: analyzed(args.config_file, args, args.opts, devices)}
    if args.compare:
        twin = analyzed(args.compare, args, shared_overrides(args.opts), devices)
        name = Path(args.compare).stem
        found[f"{name} (compared)" if name in found else name] = twin
    print(table(found, args.size))
    if args.json:
        args.json.write_text(json.dumps(as_json(found, args.size), indent=2) + "\n")


def analyzed(
    file: str, args: argparse.Namespace, opts: list[str], devices: tuple[str, ...]
) -> list[Analysis]:
    """The analysis of a config for each device."""
    cfg = load_config(file, opts, args.dataset)
    try:
        return [analyze(cfg, *args.size, device) for device in devices]
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from error


def shared_overrides(opts: list[str]) -> list[str]:
    """The overrides that a twin shares."""
    pairs = zip(opts[::2], opts[1::2], strict=True)
    return [w for pair in pairs if not pair[0].startswith("MODEL.NONLOCAL") for w in pair]


def table(found: dict[str, list[Analysis]], size: list[int]) -> str:
    """Each block, each model, and the difference between two models."""
    rows, models = [], []
    for name, analyses in found.items():
        for blocks in zip(*(a.blocks for a in analyses), strict=True):
            block, figures = blocks[0], [b.figures for b in blocks]
            channels = f"{block.channels[0]} -> {block.channels[1]}"
            rows.append(
                [block.name, channels, block.pairwise, block.impl, *format_figures(figures)]
            )
        models.append([a.figures for a in analyses])
        rows.append([name, "", "", "", *format_figures(models[-1])])
    if len(models) == 2:
        more = [ours.minus(twin) for ours, twin in zip(*models, strict=True)]
        pairs = zip(cells(more), cells(models[1]), strict=True)
        rows.append(["difference", "", "", "", *format_figures(more, "+")])
        percent = [f"{100 * a / b:+.2f} %" for a, b in pairs]
        rows.append(["difference, percent", "", "", "", *percent])
    # tabulate would read "+2,099,712" and align it as text
    more_than_one = max(map(len, found.values())) > 1
    headers = [*HEADERS, ON_GPU] if more_than_one else HEADERS
    right = ("left",) * 4 + ("right",) * (len(headers) - 4)
    body = tabulate(rows, headers=headers, colalign=right, disable_numparse=True)
    units = "a FLOP is a multiply-add, an MB 10^6 bytes"
    return f"One image of {size[0]} x {size[1]}; {units}\n\n{body}"


def cells(figures: list[Figures]) -> list[int]:
    """Parameters, FLOPs, and the activations that each device keeps."""
    return [*astuple(figures[0]), *(f.activations for f in figures[1:])]


def format_figures(figures: list[Figures], sign: str = "") -> list[str]:
    parameters, flops, *activations = cells(figures)
    kept = [f"{bytes_ / 1e6:{sign},.1f}" for bytes_ in activations]
    return [f"{parameters:{sign},}", f"{flops / 1e9:{sign},.2f}", *kept]


def as_json(found: dict[str, list[Analysis]], size: list[int]) -> dict:
    models = {name: asdict(analyses[0]) for name, analyses in found.items()}
    for name, (_, *on_gpu) in found.items():
        if on_gpu:
            models[name]["on_gpu"] = asdict(on_gpu[0])
    return {"image": size, "models": models}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"analyze_model.py: error: {error}")
