"""Print what a model and its non-local blocks cost: parameters, FLOPs, activation memory.

nl-detectron analyze \
    --config-file COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml \
    --compare COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml

The figures of a video model are those of one clip of INPUT.VIDEO.FRAMES frames.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from .. import options


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    # these take seconds, which --help need not
    from nl_detectron.analysis_report import (
        analyze_config,
        drop_block_overrides,
        format_table,
        make_json,
    )
    from nl_detectron.engine import trust_from_args
    from nl_detectron.errors import UsageError

    if args.json and (args.json.is_dir() or not args.json.parent.is_dir()):
        raise UsageError(f"--json {args.json}: expected a file in a folder that exists")
    devices = ("cpu", "cuda") if args.device == "cuda" else ("cpu",)
    given = args.dataset, args.size, devices
    with trust_from_args(args):
        models = {Path(args.config_file).stem: analyze_config(args.config_file, args.opts, *given)}
        if args.compare:
            name = Path(args.compare).stem
            twin = analyze_config(args.compare, drop_block_overrides(args.opts), *given)
            models[f"{name} (compared)" if name in models else name] = twin
    print(format_table(models))
    if args.json:
        args.json.write_text(json.dumps(make_json(models), indent=2) + "\n")


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = options.make_parser(__doc__)
    options.add_config_file(parser)
    options.add_dataset_argument(parser)
    options.add_trust_arguments(parser, checkpoints=False)
    parser.add_argument("--compare", metavar="FILE", help="a second config, such as the twin's")
    parser.add_argument(
        "--size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="of the image, by default 800 1344; of a video model's clip, by default its crop",
    )
    parser.add_argument(
        "--device",
        choices=("cpu", "cuda"),
        default="cpu",
        help="cuda: the activations that a GPU keeps in float32, too; it need not be there",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the figures there too")
    options.add_overrides(parser, "of both configs; MODEL.NONLOCAL's of the first alone")
    return parser.parse_args(words)
