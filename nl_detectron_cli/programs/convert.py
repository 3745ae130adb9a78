"""Convert weights from elsewhere: non-local blocks, Detectron2's ResNets, and whole video models.

nl-detectron convert --source torchvision --input resnet50-11ad3fa6.pth --output R-50.pth

nl-detectron convert --source slowfast --input C2D_NLN_8x8_R50.pyth --output nl.pth \
    --pairwise embedded_gaussian --pool 1,2,2
nl-detectron convert --source mmcv --input block.pth --output nl.pth --place res4.4 \
    --pairwise embedded_gaussian --scale none --base detectron2://…/model_final_a3ec72.pkl
nl-detectron convert --source caffe2 --video 32x2 --output i3d_nl5.pth \
    --input i3d_nonlocal_32x2_IN_pretrain_400k.pkl

It prints what went where and what was left, and the words of a config that computes the same.
"""

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from ..options import add_checkpoint_argument, make_parser

# those of nl_detectron.convert
SOURCES = ("mmcv", "mmaction2", "slowfast", "pytorchvideo", "caffe2", "torchvision", "timm")
UNSEEN = ("pairwise", "subsample", "pool", "scale", "groups")


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    # these take seconds, which --help need not
    import torch

    from nl_detectron.convert import convert, convert_video, read_tensors
    from nl_detectron.convert.merge import merge_into_checkpoint
    from nl_detectron.convert.report import format_config, format_table, format_video_config
    from nl_detectron.engine import trust_from_args
    from nl_detectron.errors import UsageError

    if args.output.exists() or not args.output.parent.is_dir() or args.output.suffix != ".pth":
        raise UsageError(
            f"--output {args.output}: expected a new file, NAME.pth, in a folder that exists"
        )
    config_file = args.output.with_suffix(".yaml")
    check_video_arguments(args, config_file)
    given = {fact: getattr(args, fact) for fact in UNSEEN if getattr(args, fact) is not None}
    places = parse_places(args.place) if args.place else None
    with trust_from_args(args):
        tensors = read_tensors(args.input)
        if args.video:
            own = {"strides": args.strides} if args.strides else {}
            found = convert_video(tensors, args.source, args.video, places=places, **own, **given)
            given = {"video": args.video, **own, **given}
        else:
            found = convert(tensors, args.source, places=places, fpn=args.fpn, **given)
        content = {"model": found.model}
        if args.base:
            content = merge_into_checkpoint(args.base, found.model)
    torch.save(content, args.output)
    print(format_table(found))
    if args.video:
        text = format_video_config(found, args.output.resolve(), args.source, given)
        config_file.write_text(f"{text}\n")
        print(f"\n{text}\n\nwrote {args.output} and {config_file}")
    else:
        print(f"\n{format_config(found, args.output, args.source, given)}")


def check_video_arguments(args: argparse.Namespace, config_file: Path) -> None:
    """Raises UsageError for options that do not go together."""
    from nl_detectron.errors import UsageError

    if args.video and (args.base or not args.fpn):
        raise UsageError("--video converts a whole video model: leave out --base and --no-fpn")
    if args.video and config_file.exists():
        raise UsageError(f"--output {args.output}: its config, {config_file}, is there already")
    if args.strides and not args.video:
        raise UsageError("--strides is of a whole video model: give --video too, such as 8x8")


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser(__doc__)
    add = parser.add_argument
    add("--source", required=True, choices=SOURCES, help="whose names they are")
    add("--input", required=True, metavar="FILE", help="a checkpoint of theirs, .safetensors too")
    add("--output", required=True, metavar="FILE.pth", type=Path, help="to make")
    add("--base", metavar="FILE", help="a checkpoint of Detectron2's to put the blocks into")
    add(
        "--place",
        nargs="+",
        metavar="[BLOCK=]res4.4",
        help="take over these blocks alone, to follow these residual blocks",
    )
    add(
        "--video",
        type=parse_clip,
        metavar="FRAMESxRATE",
        help="a whole video model, for clips of so many frames and steps between them, such as "
        "32x2; also writes its config, NAME.yaml",
    )
    add(
        "--strides",
        choices=("paper", "8x8", "none"),
        help="of a video model in time, if not its source's usual ones: none without pool2",
    )
    add("--no-fpn", dest="fpn", action="store_false", help="for a C4 or DC5 model")
    add_checkpoint_argument(parser)
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


def parse_clip(word: str) -> tuple[int, int]:
    """``32x2`` as its two numbers."""
    found = re.fullmatch(r"([1-9]\d{0,3})x([1-9]\d{0,3})", word)
    if not found:
        raise argparse.ArgumentTypeError(f"expected FRAMESxRATE, such as 8x8, got {word!r}")
    return int(found[1]), int(found[2])


def parse_places(words: Sequence[str]) -> dict[str, str]:
    """``BLOCK=PLACE`` or, of an only block, ``PLACE``."""
    pairs = [word.rpartition("=") for word in words]
    named = {block: place for block, _, place in pairs}
    if len(named) < len(words):
        from nl_detectron.errors import UsageError

        raise UsageError(f"--place: expected BLOCK=PLACE, each block once, got {' '.join(words)}")
    return named
