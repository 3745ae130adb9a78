"""The command line of train_net.py: Detectron2's, and what the user's own data and batch take."""

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from detectron2.engine import default_argument_parser

from ..data.coco_dataset import FORM, CocoDataset
from ..errors import UsageError
from .batch import scale_batch, scaled_keys
from .dataset_overrides import get
from .loading import load_run
from .run import Config, Run


def argument_parser() -> ArgumentParser:
    """Detectron2's parser with ``--dataset`` and ``--batch-size``."""
    parser = default_argument_parser()
    add_dataset_argument(parser)
    parser.add_argument(
        "--batch-size",
        type=parse_count,
        metavar="N",
        help="images an iteration over all GPUs; rate and schedule go along",
    )
    return parser


def add_dataset_argument(parser: ArgumentParser) -> None:
    """Give ``--dataset`` to a tool, whose ``args.dataset`` is then for :func:`load_config`."""
    parser.add_argument(
        "--dataset",
        type=_data,
        action="append",
        default=[],
        metavar=FORM,
        help="your own data in COCO's format (repeatable): a NAME in _train to train on, in _val "
        "or _test to evaluate on, or as DATASETS.TRAIN and DATASETS.TEST say",
    )


def make_output(folder: Path) -> None:
    """The folder of ``--output``, where it is not there yet.

    Raises:
        UsageError: it cannot be.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {folder}: expected a folder, or a place to make one ({error.strerror})"
        ) from error


def configured(args: Namespace) -> Config:
    """The config of a command line: a YAML file's, or a LazyConfig.

    ``args.notes`` becomes a list of lines on what it changed, for the log of ``start_run``.

    Raises:
        UsageError: of :func:`load_config`, or a batch that cannot be.
    """
    args.notes = []
    run = load_run(args.config_file, args.opts, args.dataset, args.notes.append)
    return run.cfg if args.batch_size is None else _with_batch(run, args)


def _with_batch(run: Run, args: Namespace) -> Config:
    """The given batch; overrides of what would be scaled stay as they are."""
    cfg, key, batch = run.cfg, run.keys["batch_size"], args.batch_size
    given = {word.lstrip("+").split("=")[0] for word in args.opts}
    if key in given or run.reference_world_size:
        key = key if key in given else "SOLVER.REFERENCE_WORLD_SIZE"
        raise UsageError(f"--batch-size {batch}, but {key} sets the batch too: give one of them")
    keys = scaled_keys(cfg)
    kept = [key for key in keys if key in given]
    scaled = scale_batch(cfg, batch, kept)
    values = {k: (get(cfg, k), get(scaled, k)) for k in (key, *keys)}
    told = [f"{k} {before} -> {after}" for k, (before, after) in values.items() if before != after]
    told += [f"{key} {get(cfg, key)} as given" for key in kept]
    args.notes.append(f"--batch-size {batch}: {', '.join(told) or 'the config has it already'}")
    return scaled


def _data(word: str) -> CocoDataset:
    try:
        return CocoDataset.parse(word)
    except ValueError as error:  # argparse shows the text of its own error alone
        raise ArgumentTypeError(str(error)) from error


def parse_count(word: str) -> int:
    """A whole number of 1 or more, for argparse."""
    if not (word.isdecimal() and int(word)):
        raise ArgumentTypeError(f"expected a whole number of 1 or more, got {word!r}")
    return int(word)
