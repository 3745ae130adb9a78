"""Export a model: the whole detector as TorchScript, or its backbone as ONNX or by torch.export.

nl-detectron export --config-file Demo/relay_mask_rcnn_nl.yaml \
    --format torchscript --output exported --opts MODEL.WEIGHTS model_final.pth

A video classifier is exported whole, in every format.

What was written is read again and held against the model at three image sizes: an output that
differs by more than 1e-4 of its largest value is an error, and the file is deleted.
"""

from argparse import Namespace
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from .. import options

FORMATS = ("torchscript", "onnx", "torch_export")  # those of nl_detectron.export


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    # these take seconds, which --help need not
    from nl_detectron.engine import trust_from_args
    from nl_detectron.export import export_model

    say = partial(print, flush=True)
    with trust_from_args(args):
        export_model(args.config_file, args.format, args.output, args.opts, args.image, say)


def parse_arguments(words: Sequence[str] | None) -> Namespace:
    parser = options.make_parser(__doc__)
    options.add_config_file(parser)
    options.add_trust_arguments(parser)
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
    options.add_overrides(parser)
    return parser.parse_args(words)
