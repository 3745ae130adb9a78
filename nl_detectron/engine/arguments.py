"""The command line of train_net.py: Detectron2's parser with options of this package."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from detectron2.engine import default_argument_parser

from ..data.coco_dataset import FORM, CocoDataset
from ..data.video.dataset import FORM as VIDEO_FORM
from ..data.video.dataset import VideoDataset
from ..errors import UsageError
from .batch import scale_batch, scaled_keys
from .dataset_overrides import get
from .loading import load_run
from .run import Config, Run
from .trust import add_trust_arguments


def argument_parser() -> ArgumentParser:
    """Return Detectron2's parser with ``--dataset``, ``--batch-size`` and the trust options."""
    parser = default_argument_parser()
    add_dataset_argument(parser)
    add_trust_arguments(parser)
    parser.add_argument(
        "--batch-size",
        type=parse_count,
        metavar="N",
        help="images per iteration over all GPUs; scales the learning rate and the schedule",
    )
    return parser


def add_dataset_argument(parser: ArgumentParser) -> None:
    """Add ``--dataset`` to a parser; :func:`load_config` takes the resulting ``args.dataset``."""
    parser.add_argument(
        "--dataset",
        type=_parse_dataset,
        action="append",
        default=[],
        metavar=FORM,
        help="your own data in COCO's format (repeatable), or videos for a video model, as "
        f"{VIDEO_FORM} (docs/video_data.md has the kinds of lists). A NAME that ends in _train is "
        "used for training, one in _val or _test for evaluation, any other if DATASETS.TRAIN or "
        "DATASETS.TEST names it",
    )


def make_output(folder: Path) -> None:
    """Make the folder of ``--output`` if it does not exist.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {folder}: expected a folder, or a place to make one ({error.strerror})"
        ) from error


def config_from_args(args: Namespace) -> Config:
    """Load the config of a parsed command line: a YAML file or a LazyConfig, with overrides.

    Sets ``args.notes`` to lines on what was adapted or scaled, which ``start_run`` logs.

    Raises:
        UsageError: as in :func:`load_config` and :func:`scale_batch`, or ``--batch-size``
            contradicts an override.
    """
    args.notes = []
    run = load_run(args.config_file, args.opts, args.dataset, args.notes.append)
    return run.cfg if args.batch_size is None else _with_batch(run, args)


def _with_batch(run: Run, args: Namespace) -> Config:
    """Scale the config to ``--batch-size``, except for keys that the user overrides."""
    cfg, key, batch = run.cfg, run.keys["batch_size"], args.batch_size
    given = {override.lstrip("+").split("=")[0] for override in args.opts}
    if key in given or run.reference_world_size:
        key = key if key in given else "SOLVER.REFERENCE_WORLD_SIZE"
        raise UsageError(f"--batch-size {batch}, but {key} sets the batch too: give one of them")
    keys = scaled_keys(cfg)
    kept = [key for key in keys if key in given]
    scaled = scale_batch(cfg, batch, kept)
    values = {k: (get(cfg, k), get(scaled, k)) for k in (key, *keys)}
    notes = [f"{k} {before} -> {after}" for k, (before, after) in values.items() if before != after]
    notes += [f"{key} {get(cfg, key)} as given" for key in kept]
    args.notes.append(f"--batch-size {batch}: {', '.join(notes) or 'the config has it already'}")
    return scaled


def _parse_dataset(text: str) -> CocoDataset | VideoDataset:
    try:
        return parse_dataset(text)
    except ValueError as error:  # argparse shows the message of an ArgumentTypeError only
        raise ArgumentTypeError(str(error)) from error


def parse_dataset(text: str) -> CocoDataset | VideoDataset:
    """Parse the value of ``--dataset``: images in COCO's format, or a list of videos.

    Raises:
        ValueError: the text has another form.
    """
    try:
        return VideoDataset.parse(text)
    except ValueError:
        pass
    try:
        return CocoDataset.parse(text)
    except ValueError as error:
        raise ValueError(f"{error}; for videos, {VIDEO_FORM} or .csv") from error


def parse_count(text: str) -> int:
    """Parse a whole number of 1 or more, for argparse."""
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)
