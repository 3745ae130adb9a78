#!/usr/bin/env python3
"""Take the non-local blocks of a checkpoint from elsewhere over, into the names here.

python tools/convert_weights.py --source slowfast --input C2D_NLN_8x8_R50.pyth --output nl.pth \
    --pairwise embedded_gaussian --subsample before
python tools/convert_weights.py --source mmcv --input block.pth --output nl.pth --place res4.4 \
    --pairwise embedded_gaussian --no-scale --base detectron2://…/model_final_a3ec72.pkl

It prints what went where and what was left, and the words of a config that computes the same.
"""

import argparse
import re
import sys
import textwrap
from collections import Counter
from pathlib import Path

import torch
import yaml
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from tabulate import tabulate

from nl_detectron.convert import SOURCES, Converted, convert, read_tensors
from nl_detectron.engine import UsageError
from nl_detectron.engine.checkpoint import read_checkpoint


def main(words: list[str] | None = None) -> None:
    args = parsed(words)
    if args.output.exists() or not args.output.parent.is_dir() or args.output.suffix != ".pth":
        raise UsageError(
            f"--output {args.output}: expected a new file, NAME.pth, in a folder that exists"
        )
    found = convert(
        read_tensors(args.input),
        args.source,
        places=places(args.place) if args.place else None,
        fpn=args.fpn,
        pairwise=args.pairwise,
        subsample=args.subsample,
        use_scale=args.scale,
        norm=args.norm,
    )
    checkpoint = with_base(args.base, found) if args.base else {"model": found.model}
    torch.save(checkpoint, args.output)
    print(table(found))
    print(f"\n{fragment(found, args.output, args.source)}")


def parsed(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--source", required=True, choices=SOURCES, help="whose names they are")
    add("--input", required=True, metavar="FILE", help="a checkpoint of theirs")
    add("--output", required=True, metavar="FILE.pth", type=Path, help="to make")
    add("--base", metavar="FILE", help="a checkpoint of Detectron2's to put the blocks into")
    add(
        "--place",
        nargs="+",
        metavar="[BLOCK=]res4.4",
        help="take over these blocks alone, to follow these residual blocks",
    )
    add("--no-fpn", dest="fpn", action="store_false", help="for a C4 or DC5 model")
    told = parser.add_argument_group("what tensors do not tell (an error says when and what)")
    told.add_argument("--pairwise", choices=("embedded_gaussian", "dot_product"))
    told.add_argument("--subsample", choices=("before", "after", "none"))
    told.add_argument(
        "--scale", action=argparse.BooleanOptionalAction, help="theta . phi over a root"
    )
    told.add_argument("--norm", choices=("GN",), help="of 32 groups")
    return parser.parse_args(words)


def places(words: list[str]) -> dict[str, str]:
    """``BLOCK=PLACE`` or, of an only block, ``PLACE``."""
    pairs = [word.rpartition("=") for word in words]
    named = {block: place for block, _, place in pairs}
    if len(named) < len(words):
        raise UsageError(f"--place: expected BLOCK=PLACE, each block once, got {' '.join(words)}")
    return named


def with_base(path: str, found: Converted) -> dict:
    """A checkpoint of Detectron2's, to start a training from, with these tensors in it."""
    base = read_checkpoint(path)
    tensors = {name: torch.as_tensor(value) for name, value in base["model"].items()}
    if base.get("__author__") == "Caffe2":  # as MSRA's R-50.pkl
        tensors, _ = convert_c2_detectron_names(tensors)
    heuristics = {"matching_heuristics": True} if base.get("matching_heuristics") else {}
    return {"model": tensors | found.model, **heuristics}


def table(found: Converted) -> str:
    """A row for each block, the ResNet, and each reason to leave tensors."""
    rows = []
    for theirs, ours in found.blocks.items():
        tensors = {k: v for k, v in found.model.items() if k.startswith(f"{ours}.")}
        inner, channels = tensors[f"{ours}.g.weight"].shape[:2]
        rows.append([theirs, f"{ours}, {channels} -> {inner} channels", len(tensors)])
    if found.resnet:
        rows.append([parts(found.resnet), "the ResNet", len(found.resnet)])
    for reason in dict.fromkeys(found.left.values()):
        left = [name for name, why in found.left.items() if why == reason]
        rows.append([parts(left), f"left: {reason}", len(left)])
    return tabulate(rows, ["there", "here", "tensors"], maxcolwidths=[40, 70, None])


def parts(names) -> str:
    """The first words of names."""
    return ", ".join(Counter(re.split(r"[._]", name)[0] for name in names))


def fragment(found: Converted, output: Path, source: str) -> str:
    """A config's words, as YAML."""
    words = {"MODEL": {"WEIGHTS": str(output), **found.config["MODEL"]}}
    text = "# to put into a config\n" + yaml.safe_dump(words, sort_keys=False)
    if found.resnet:
        untold = (
            "The tensors do not tell MODEL.RESNETS.STRIDE_IN_1X1 and RES5_DILATION, "
            "MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT. Set them as the ResNet was "
            f"trained, by its {SOURCES[source].resnet_told_by}."
        )
        text += textwrap.fill(untold, 79, initial_indent="# ", subsequent_indent="# ")
    return text.rstrip()


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"convert_weights.py: error: {error}")
