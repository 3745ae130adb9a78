#!/usr/bin/env python3
"""Draw what a model finds in images, videos or a camera, and where its non-local blocks look.

python tools/demo.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml \
    --input photo.jpg folder "more/*.png" video.mp4 --output found --attention auto \
    --opts MODEL.WEIGHTS model_final.pth

The folder gets NAME.png for an image and NAME.attention1.png and so on, NAME.mp4 for a video with
attention below its frames, and detections.jsonl: a line of JSON for each image or frame.
"""

import argparse
import gc
import sys
from argparse import ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from demo_drawing import MOST, Drawing
from demo_inputs import (
    Frame,
    Skipped,
    Source,
    batches,
    camera,
    find_sources,
    quiet_opencv,
    say,
)
from demo_outputs import Outputs, Window
from detectron2.config import CfgNode
from torch import nn
from tqdm import tqdm

from nl_detectron.attention import AttentionRecord, record_attention
from nl_detectron.config import detector_section
from nl_detectron.engine import (
    Checkpointer,
    add_dataset_argument,
    build_on_meta,
    load_config,
    make_output,
)
from nl_detectron.engine.checkpoint import fresh_outside_blocks, read_checkpoint
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code: 1 if anything was skipped, else 0."""
    args = parsed(argv)
    quiet_opencv()
    cfg = configured(args)
    skipped = Skipped()
    live = args.webcam is not None
    sources = [camera(args.webcam)] if live else find_sources(args.input, skipped)
    check_output(args.output, sources)
    make_output(args.output)
    model = load_model(cfg, looking=bool(args.attention))
    if args.attention and not find_blocks(model):
        say("warning: --attention: this model has no non-local blocks, so detections alone follow")
        args.attention = None
    drawing = Drawing(cfg, args.confidence_threshold, args.attention, skipped, args.scores)
    looked = records(model, cfg, batches(sources, args.batch_size, skipped), skipped)
    counts = {"image(s)": 0, "frame(s)": 0, "detection(s)": 0}
    window = Window() if live else None
    gc.freeze()  # else finding the cycles that Matplotlib leaves takes longer than a picture
    try:
        with Outputs(args.output) as outputs, tqdm(total=total(sources), unit="image") as bar:
            for frame, record in looked:
                picture, panels, found = drawing(frame, record)
                outputs.put(frame, picture, panels, found)
                counts["frame(s)" if frame.source.video else "image(s)"] += 1
                counts["detection(s)"] += len(found)
                bar.update()
                gc.collect()
                if window and not window.show(picture):
                    break
    except KeyboardInterrupt:
        if not live:
            raise
    finally:
        gc.unfreeze()
        if window:
            window.close()
    if not any(counts.values()):
        raise UsageError("nothing could be read, so nothing is drawn")
    print(", ".join(f"{n} {what}" for what, n in counts.items()), f"-> {args.output}")
    return 1 if skipped.count else 0


def parsed(argv: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    add_dataset_argument(parser)
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
        type=_score,
        default=0.5,
        metavar="SCORE",
        help="the least that is drawn and written (default: %(default)s)",
    )
    parser.add_argument(
        "--attention",
        type=_point,
        metavar="X,Y|auto",
        help="where blocks look from, in pixels; auto: from the centres of the surest detections, "
        f"at most {MOST}, of a video one",
    )
    parser.add_argument(
        "--scores",
        action="store_true",
        help="of softmax forms show the scores, log f: what is alike, where all weight is on one",
    )
    parser.add_argument(
        "--batch-size", type=_count, default=1, metavar="N", help="images at once (default: 1)"
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE overrides, last"
    )
    return parser.parse_args(argv)


def configured(args: Namespace) -> CfgNode:
    cfg = load_config(args.config_file, args.opts, args.dataset, say)
    if not cfg.MODEL.WEIGHTS:
        raise UsageError("MODEL.WEIGHTS is empty: give a checkpoint, --opts MODEL.WEIGHTS FILE")
    cfg.defrost()
    # the config's may be higher
    detector_section(cfg).SCORE_THRESH_TEST = args.confidence_threshold
    cfg.freeze()
    return cfg


def check_output(folder: Path, sources: Sequence[Source]) -> None:
    """Raises UsageError where files in it could replace the input, or there is no input."""
    if not sources:
        raise UsageError("nothing of --input can be read: give images, folders of them or videos")
    for path in (Path(source.path) for source in sources if source.camera is None):
        if folder.resolve() in (path.resolve().parent, path.parent.resolve()):
            raise UsageError(
                f"--output {folder} is the folder of {path}, which a picture could "
                "replace; name another folder"
            )


def load_model(cfg: CfgNode, looking: bool) -> nn.Module:
    """With the weights of its checkpoint; warns of those that it lacks.

    Args:
        looking: blocks matter, too; else an untrained one does no harm, being the identity.
    """
    build_on_meta(cfg)
    path = cfg.MODEL.WEIGHTS
    read_checkpoint(path)
    model = build_model(cfg)
    checkpointer = Checkpointer(model)
    checkpointer.load(path)
    lacking = fresh_outside_blocks(checkpointer)
    if lacking:
        say(
            f"warning: checkpoint {path!r} lacks {len(lacking)} of this model's tensors (such as "
            f"{lacking[0]}): they are untrained, so what is found means little"
        )
    fresh = tuple(checkpointer.fresh)
    blocks = [name for name in find_blocks(model) if any(f.startswith(f"{name}.") for f in fresh)]
    if blocks and looking:
        say(
            f"warning: checkpoint {path!r} lacks {', '.join(blocks)}: untrained, so where that "
            "looks means little"
        )
    return model


def total(sources: Sequence[Source]) -> int | None:
    counts = [source.frames for source in sources]
    return None if None in counts else sum(counts)


def records(
    model: nn.Module, cfg: CfgNode, batches: Iterator[list[Frame]], skipped: Skipped
) -> Iterator[tuple[Frame, AttentionRecord]]:
    """Each frame with the model's record of it; what a model cannot take is skipped."""
    resize = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
    for batch in batches:
        try:
            found = record_attention(model, [frame.image for frame in batch], resize)
        except torch.cuda.OutOfMemoryError as error:
            raise UsageError(
                f"{len(batch)} image(s) at once do not fit the GPU's memory: give a smaller "
                "--batch-size or INPUT.MIN_SIZE_TEST"
            ) from error
        except ValueError as error:
            if len(batch) > 1:  # the others may do
                yield from records(model, cfg, ([frame] for frame in batch), skipped)
                continue
            height, width = batch[0].image.shape[:2]
            why = f"the model cannot take {width} x {height} pixels: {error}"
            skipped(batch[0].source.path, why)
        else:
            if "instances" not in found[0].found:
                raise UsageError(
                    f"expected a model that finds instances, got one of {list(found[0].found)}"
                )
            yield from zip(batch, found, strict=True)


def _point(word: str) -> str | tuple[float, float]:
    if word == "auto":
        return word
    try:
        x, y = map(float, word.split(","))
    except ValueError as error:
        raise ArgumentTypeError(
            f"expected X,Y in pixels of the image, such as 120,45, or auto, got {word!r}"
        ) from error
    return x, y


def _score(word: str) -> float:
    try:
        value = float(word)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise ArgumentTypeError(f"expected a score of 0 to 1, got {word!r}")
    return value


def _count(word: str) -> int:
    if not (word.isdecimal() and int(word)):
        raise ArgumentTypeError(f"expected a whole number of 1 or more, got {word!r}")
    return int(word)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UsageError as error:
        sys.exit(f"demo.py: error: {error}")
    except KeyboardInterrupt:
        sys.exit("demo.py: stopped; what was drawn until now is there")
