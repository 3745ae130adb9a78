"""Draw what a model finds in images, videos or a camera, and where its non-local blocks look.

nl-detectron demo --config-file Demo/relay_mask_rcnn_nl.yaml \
    --input photo.jpg folder "more/*.png" video.mp4 --output found --attention auto \
    --opts MODEL.WEIGHTS model_final.pth

The folder gets NAME.png for an image and NAME.attention1.png and so on, NAME.mp4 for a video with
attention below its frames, and detections.jsonl: a line of JSON for each image or frame. Of a video
model it gets NAME.mp4 with the classes, NAME.attention.png, and classes.jsonl: a line for each
video.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from .. import names
from ..demo import THRESHOLD, make_demo_parser

INTERRUPTED = "stopped; what was drawn until now is there"


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if anything was skipped, else 0."""
    args = make_demo_parser(__doc__).parse_args(words)
    from nl_detectron.engine import trust_from_args  # takes seconds, which --help need not

    with trust_from_args(args):
        return predict(args)


def predict(args: Namespace) -> int:
    """Returns the exit code, as :func:`main`."""
    from nl_detectron.config import is_video
    from nl_detectron.engine.full_disk import report_full_disk
    from nl_detectron.prediction.inputs import (
        SkipReporter,
        find_camera,
        find_sources,
        silence_opencv,
    )
    from nl_detectron.prediction.predictor import load_prediction_config, predict_sources

    silence_opencv()
    threshold = THRESHOLD if args.confidence_threshold is None else args.confidence_threshold
    cfg = load_prediction_config(args.config_file, args.opts, args.dataset, threshold, say)
    skip = SkipReporter(say)
    if is_video(cfg):
        return classify(args, cfg, skip)
    check_points(args.attention, 2, "X,Y")
    live = args.webcam is not None
    sources = [find_camera(args.webcam)] if live else find_sources(args.input, skip)
    with report_full_disk(str(args.output), "start it again"):
        counts = predict_sources(
            cfg,
            sources,
            args.output,
            skip,
            say,
            attention=args.attention,
            show_scores=args.scores,
            batch_size=args.batch_size,
        )
    found = counts["detection(s)"]
    shown = {what: n for what, n in counts.items() if n or what == "detection(s)"}
    print(", ".join(f"{n} {what}" for what, n in shown.items()), f"-> {args.output}")
    if not found:
        say(
            f"nothing has a score of --confidence-threshold {threshold:g} or more: "
            "try a lower one, such as 0.1, or a model that was trained longer"
        )
    return 1 if skip.count else 0


def classify(args: Namespace, cfg: Any, skip: Any) -> int:
    """The same for a video model."""
    from nl_detectron.engine.full_disk import report_full_disk
    from nl_detectron.errors import UsageError
    from nl_detectron.prediction.video_predictor import LINES, predict_videos

    for given, option, hint in (
        (args.webcam is not None, "--webcam", "give --input and videos"),
        (args.scores, "--scores", "leave it out"),
        (args.batch_size > 1, "--batch-size", "TEST.VIDEO.BATCH has the views at once"),
    ):
        if given:
            raise UsageError(f"{option} is for models of images, and this is one of videos: {hint}")
    check_points(args.attention, 3, "FRAME,X,Y")
    with report_full_disk(str(args.output), "start it again"):
        count = predict_videos(
            cfg,
            args.input,
            args.output,
            skip,
            say,
            attention=args.attention,
            threshold=args.confidence_threshold or 0.0,
        )
    print(f"{count} video(s) -> {args.output}/{LINES}")
    return 1 if skip.count else 0


def check_points(point: str | Sequence[float] | None, numbers: int, form: str) -> None:
    """Raises UsageError for a point with another number of numbers than the model's kind has."""
    from nl_detectron.errors import UsageError

    if isinstance(point, tuple) and len(point) != numbers:
        kind = "images" if numbers == 2 else "videos"
        raise UsageError(
            f"--attention {','.join(f'{n:g}' for n in point)}: expected {form} or auto for a model "
            f"of {kind}"
        )


def say(text: str) -> None:
    """Print a line on stderr, above the progress bar."""
    from tqdm import tqdm

    tqdm.write(f"{names.short_program_name('demo')}: {text}", file=sys.stderr)
