#!/usr/bin/env python3
"""Export a model: the whole detector as TorchScript, or its backbone as ONNX or by torch.export.

A video classifier is exported whole, as any of them.

python tools/export_model.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml \
    --format torchscript --output exported --opts MODEL.WEIGHTS model_final.pth

What was written is read again and held against the model at three image sizes: an output that
differs by more than 1e-4 of its largest value is an error, and the file is deleted.
"""

import argparse
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from nl_detectron.engine import add_trust_arguments, trust_from_args
from nl_detectron.errors import UsageError
from nl_detectron.export import FORMATS, export_model


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_arguments(argv)
    say = partial(print, flush=True)
    with trust_from_args(args):
        export_model(args.config_file, args.format, args.output, args.opts, args.image, say)


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    add_trust_arguments(parser)
    parser.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="torchscript: the whole detector; onnx, torch_export: its backbone, with FPN and "
        "blocks, as the heads work on as many boxes as they find; of a video model, each the whole "
        "classifier",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--image",
        metavar="FILE",
        help="what the export is checked on; made up by default, which may show a detector nothing",
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE overrides, last"
    )
    return parser.parse_args(argv)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"export_model.py: error: {error}")
