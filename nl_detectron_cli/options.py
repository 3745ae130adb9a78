"""The parser of the programs, and the options that several of them have."""

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

from . import names

# first words of keys of a YAML file, and of a LazyConfig
SECTIONS = (
    "MODEL|INPUT|DATASETS|DATALOADER|SOLVER|TEST|VISUALIZE|GLOBAL|OUTPUT_DIR|SEED|VERSION|"
    "CUDNN_BENCHMARK|VIS_PERIOD|FLOAT32_PRECISION"
)
LAZY_SECTIONS = "model|optimizer|lr_multiplier|dataloader|train"
KEY = re.compile(rf"({SECTIONS})(\.[A-Z0-9_]+)*")
ASSIGNMENT = re.compile(rf"\+{{0,2}}({LAZY_SECTIONS})(\.\w+)+=.*", re.DOTALL)


class Parser(ArgumentParser):
    """An argument parser that takes no abbreviations and, after :func:`add_overrides`, overrides of
    a config anywhere: in ``args.opts``, in their order."""

    has_overrides = False
    own_overrides: tuple[str, ...] = ()  # options whose overrides are not for args.opts

    def __init__(self, *args: Any, **keys: Any):
        super().__init__(*args, **{"prog": names.running_program(), "allow_abbrev": False, **keys})

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        words = list(sys.argv[1:] if args is None else args)
        self._check_options(words)  # first: else a mistyped one is said to be missing
        if not self.has_overrides:
            return super().parse_args(words, namespace)
        words, overrides = self._split(words)
        parsed, left = self.parse_known_args(words, namespace)
        parsed.opts = [*overrides, *parsed.opts, *parsed.__dict__.pop("more_opts"), *left]
        return parsed

    def _check_options(self, words: Sequence[str]) -> None:
        for word in words:
            option = word.split("=")[0]
            if option.startswith("--") and option not in self._option_string_actions:
                near = get_close_matches(option, self._option_string_actions, n=1, cutoff=0.5)
                hint = f"; did you mean {near[0]}?" if near else ""
                self.error(f"unrecognized arguments: {option}{hint}")

    def error(self, message: str) -> NoReturn:
        """One line, as for every other mistake; argparse's exit code."""
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")

    def _split(self, words: list[str]) -> tuple[list[str], list[str]]:
        """Words without overrides of known sections, and these overrides."""
        rest, overrides = [], []
        option, position = "", 0
        while position < len(words):
            word = words[position]
            follows_option = position and words[position - 1] == option
            position += 1
            if word.startswith("--"):
                option = word
            takes_value = follows_option and self._takes_one_value(option)
            if takes_value or option in self.own_overrides or os.path.exists(word):
                rest.append(word)
            elif KEY.fullmatch(word):
                overrides.append(word)
                if position < len(words) and not words[position].startswith("--"):
                    overrides.append(words[position])
                    position += 1
            elif ASSIGNMENT.fullmatch(word):
                overrides.append(word)
            else:
                rest.append(word)
        return rest, overrides

    def _takes_one_value(self, option: str) -> bool:
        action = self._option_string_actions.get(option)
        return action is not None and action.nargs is None


def make_parser(description: str | None, **keys: Any) -> Parser:
    """A parser whose ``--help`` begins with the first line of a program's docstring."""
    return Parser(description=(description or "").split("\n")[0], **keys)


def add_config_file(parser: ArgumentParser, required: bool = True) -> None:
    """Add ``--config-file``."""
    parser.add_argument(
        "--config-file",
        required=required,
        default="",
        metavar="FILE",
        help="a config, such as those in configs/, by its path there too",
    )


def add_overrides(parser: Parser, whose: str = "of the config") -> None:
    """Add overrides of a config's keys: ``KEY VALUE`` after the options, or after ``--opts``."""
    parser.has_overrides = True
    form = f"overrides {whose}: KEY VALUE ..., of a LazyConfig key=value ..."
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help=form)
    parser.add_argument(
        "--opts",
        dest="more_opts",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY VALUE",
        help="the same",
    )


def add_dataset_argument(parser: ArgumentParser) -> None:
    """Add ``--dataset``, the user's own data sets."""
    parser.add_argument(
        "--dataset",
        type=_parse_dataset,
        action="append",
        default=[],
        metavar="NAME=ANNOTATIONS.json:IMAGE_FOLDER",
        help="your own data in COCO's format (repeatable), or videos for a video model, as "
        "NAME=LIST.txt:VIDEO_FOLDER (docs/video_data.md has the kinds of lists). A NAME that ends "
        "in _train is used for training, one in _val or _test for evaluation, any other if "
        "DATASETS.TRAIN or DATASETS.TEST names it",
    )


def _parse_dataset(text: str) -> Any:
    try:
        return import_module("nl_detectron.data.own_dataset").parse_dataset(text)
    except ValueError as error:  # argparse shows the message of an ArgumentTypeError only
        raise ArgumentTypeError(str(error)) from error


def add_trust_arguments(parser: ArgumentParser, *, checkpoints: bool = True) -> None:
    """Add ``--allow-remote-base`` and, for a program that reads weights, ``--trust-checkpoint``."""
    parser.add_argument(
        "--allow-remote-base", action="store_true", help="fetch a _BASE_ that is a URL in a config"
    )
    if checkpoints:
        add_checkpoint_argument(parser)


def add_checkpoint_argument(parser: ArgumentParser) -> None:
    """Add ``--trust-checkpoint``."""
    parser.add_argument(
        "--trust-checkpoint",
        action="store_true",
        help="also read weight files that hold more than tensors; this runs any code in them",
    )


def parse_count(text: str) -> int:
    """Parse a whole number of 1 or more, for argparse."""
    if not (text.isdecimal() and int(text)):
        raise ArgumentTypeError(f"expected a whole number of 1 or more, got {text!r}")
    return int(text)


def make_training_parser() -> Parser:
    """The parser of ``train`` and ``eval``: Detectron2's options (``default_argument_parser``), and
    ``--dataset``, ``--batch-size``, ``--no-check`` and the trust options."""
    parser = Parser(
        description="Train or evaluate a detector or a video classifier, with or without non-local "
        "blocks.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog="KEY VALUE overrides follow the options: MODEL.WEIGHTS weights.pth SOLVER.MAX_ITER "
        "100\non two machines: --num-machines 2 --machine-rank 0 (or 1) --dist-url tcp://HOST:PORT",
    )
    add_config_file(parser, required=False)
    add = parser.add_argument
    add("--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS on DATASETS.TEST")
    add("--num-gpus", type=int, default=1, metavar="N", help="of this machine")
    add("--num-machines", type=int, default=1, metavar="N")
    add("--machine-rank", type=int, default=0, metavar="N", help="of this machine, from 0")
    # A port of the user's, as in Detectron2: processes that were left over are noticed by it.
    port = 2**15 + 2**14 + hash(os.getuid() if sys.platform != "win32" else 1) % 2**14
    add("--dist-url", default=f"tcp://127.0.0.1:{port}", metavar="URL", help="or auto")
    add_dataset_argument(parser)
    add_trust_arguments(parser)
    add(
        "--batch-size",
        type=parse_count,
        metavar="N",
        help="images per iteration over all GPUs; scales the learning rate and the schedule",
    )
    add(
        "--no-check",
        action="store_true",
        help="start without looking whether the images or videos of all data sets exist",
    )
    add_overrides(parser)
    return parser
