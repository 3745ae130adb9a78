#!/usr/bin/env python3
"""Take the non-local blocks of a checkpoint from elsewhere over, into the names here.

python tools/convert_weights.py --source slowfast --input C2D_NLN_8x8_R50.pyth --output nl.pth \
    --pairwise embedded_gaussian --pool 1,2,2
python tools/convert_weights.py --source mmcv --input block.pth --output nl.pth --place res4.4 \
    --pairwise embedded_gaussian --scale none --base detectron2://…/model_final_a3ec72.pkl

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
from nl_detectron.engine.checkpoint import read_checkpoint
from nl_detectron.errors import UsageError

UNSEEN = ("pairwise", "subsample", "pool", "scale", "groups")


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
        **parse_options(args),
    )
    checkpoint = with_base(args.base, found) if args.base else {"model": found.model}
    torch.save(checkpoint, args.output)
    print(table(found))
    print(f"\n{fragment(found, args)}")


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
    unseen = parser.add_argument_group("what tensors do not show (an error says which is needed)")
    add = unseen.add_argument
    add("--pairwise", choices=("embedded_gaussian", "dot_product"))
    add("--subsample", choices=("before", "after", "none"), help="where the 2x2 pool is")
    add("--pool", type=integers, metavar="T,H,W", help="the max pool's kernel: 1,2,2 or 1,1,1")
    add("--scale", choices=("divided", "none", "multiplied"), help="of theta . phi, by sqrt(D)")
    add("--groups", type=int, metavar="N", help="of a GroupNorm: 32")
    return parser.parse_args(words)


def integers(word: str) -> tuple[int, ...]:
    """``1,2,2`` or, as SlowFast's config has it, ``[1, 2, 2]``."""
    return tuple(int(number) for number in word.strip("[]").split(","))


def parse_options(args: argparse.Namespace) -> dict:
    """The options of the last group that were given."""
    facts = {fact: getattr(args, fact) for fact in UNSEEN}
    return {fact: value for fact, value in facts.items() if value is not None}


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


def fragment(found: Converted, args: argparse.Namespace) -> str:
    """A config's words, as YAML, and in comments what no checkpoint shows."""
    words = {"MODEL": {"WEIGHTS": str(args.output), **found.config["MODEL"]}}
    text = "# to put into a config\n" + yaml.safe_dump(words, sort_keys=False)
    facts = (
        f"--{fact} {','.join(map(str, value)) if fact == 'pool' else value}"
        for fact, value in parse_options(args).items()
    )
    unseen = (
        "No checkpoint shows all that its blocks compute. Taken as given: "
        f"{' '.join(facts) or 'nothing'}. Assumed: an eps of 1e-5 in every norm."
    )
    if found.resnet:
        unseen += (
            " The tensors do not tell MODEL.RESNETS.STRIDE_IN_1X1 and RES5_DILATION, "
            "MODEL.PIXEL_MEAN, MODEL.PIXEL_STD and INPUT.FORMAT. Set them as the ResNet was "
            f"trained, by its {SOURCES[args.source].resnet_told_by}."
        )
    return text + textwrap.fill(
        unseen, 79, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"convert_weights.py: error: {error}")
