"""The command ``nl-detectron``: a program's name, and its arguments."""

import sys
from argparse import RawDescriptionHelpFormatter
from difflib import get_close_matches
from functools import partial
from importlib import import_module

from . import names
from .options import Parser
from .program import run

PROGRAMS = {
    "setup": "install Detectron2 into this environment, unless one imports",
    "train": "train a detector, with or without non-local blocks",
    "eval": "evaluate a trained one",
    "demo": "draw what a model finds in images, videos or a camera",
    "explore": "a local page that shows what each block attends to",
    "check": "tell what is wrong with a data set in COCO's format",
    "convert": "convert weights of other projects",
    "export": "export a model to TorchScript, ONNX or by torch.export",
    "publish": "make a trained checkpoint ready to be given away",
    "analyze": "count parameters, FLOPs and activation memory",
    "reproduce": "train the models of one of the paper's tables",
}


def main() -> None:
    """Run the program that the command line names, and end with its exit code."""
    program, *words = sys.argv[1:] or ["--help"]
    if program not in PROGRAMS:
        parser = make_parser()
        parser.parse_known_args([program])  # --help, --version, or a mistyped option
        near = get_close_matches(program, PROGRAMS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(PROGRAMS)}"
        parser.error(f"there is no program {program!r}; {hint}")
    started = import_module(f".programs.{program}", __package__)
    run(partial(started.main, words), getattr(started, "INTERRUPTED", "stopped"))


def make_parser() -> Parser:
    """The parser of a command line without a program's name."""
    rows = "\n".join(f"  {program:<11}{text}" for program, text in PROGRAMS.items())
    parser = Parser(
        prog=names.COMMAND,
        usage=f"{names.COMMAND} PROGRAM ...",
        description="Non-local neural networks for Detectron2.",
        formatter_class=RawDescriptionHelpFormatter,
        epilog=f"programs:\n{rows}\n\n{names.COMMAND} PROGRAM --help lists a program's options",
    )
    parser.add_argument("--version", action="version", version=f"{names.COMMAND} {read_version()}")
    return parser


def read_version() -> str:
    """The installed version, without importing the package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nl_detectron")
    except PackageNotFoundError:  # a clone that is not installed
        return "(not installed)"
