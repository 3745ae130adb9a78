"""The command line of ``tools/demo.py``."""

from argparse import ArgumentTypeError
from pathlib import Path

from . import options

MAX_POINTS = 3  # that of nl_detectron.prediction.drawing
THRESHOLD = 0.5  # least score of a detection


def make_demo_parser(doc: str | None) -> options.Parser:
    """A parser of the config, the inputs, the output folder and what to draw."""
    parser = options.make_parser(doc)
    options.add_config_file(parser)
    options.add_dataset_argument(parser)
    options.add_trust_arguments(parser)
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--input",
        nargs="+",
        action="extend",
        metavar="PATH",
        help="images, videos, folders of images, quoted patterns of them",
    )
    given.add_argument(
        "--webcam",
        nargs="?",
        type=int,
        const=0,
        metavar="NUMBER",
        help="a camera (default: the first), until Ctrl-C, or q where OpenCV has windows",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--confidence-threshold",
        type=parse_score,
        metavar="SCORE",
        help=f"the least that is drawn and written (default: {THRESHOLD}; of a video model: the "
        "five highest)",
    )
    parser.add_argument(
        "--attention",
        type=parse_point,
        metavar="X,Y|FRAME,X,Y|auto",
        help="positions whose attention is drawn, in pixels; auto: centres of the detections with "
        f"the highest scores, at most {MAX_POINTS}, in a video one; of a video model a FRAME from "
        "0, X and Y, or where a block adds the most",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="of softmax forms draw the scores (log f) in place of the weights: they differ even "
        "where one position has all the weight",
    )
    parser.add_argument(
        "--batch-size",
        type=options.parse_count,
        default=1,
        metavar="N",
        help="images at once (default: 1)",
    )
    options.add_overrides(parser)
    return parser


def parse_point(word: str) -> str | tuple[float, ...]:
    """``auto``, or ``X,Y`` as two numbers, or ``FRAME,X,Y`` as three."""
    if word == "auto":
        return "auto"
    parts = word.split(",")
    try:
        frame = [int(part) for part in parts[:-2]]
        x, y = map(float, parts[-2:])
        if len(frame) < 2:
            return *frame, x, y
    except ValueError:
        pass
    raise ArgumentTypeError(
        "expected X,Y in pixels of the image, such as 120,45, for a video model FRAME,X,Y, or "
        f"auto, got {word!r}"
    )


def parse_score(word: str) -> float:
    """A number from 0 to 1."""
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"expected a score of 0 to 1, got {word!r}")
    return value
