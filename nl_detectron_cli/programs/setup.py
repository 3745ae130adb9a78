"""Install Detectron2 into this environment, unless one imports already.

nl-detectron setup

It is a third party's wheel, pinned by hash, that needs no compiler. To use a Detectron2 of your
own, install it instead.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from .. import names
from ..detectron2_wheel import SetupError, provide_detectron2
from ..options import make_parser

INTERRUPTED = "stopped; the same command goes on from here"


def main(words: Sequence[str] | None = None) -> int:
    """Returns the exit code."""
    make_parser(__doc__).parse_args(words)
    try:
        print(f"Detectron2: {provide_detectron2(Path(sys.executable))}")
    except SetupError as error:
        print(f"{names.running_program()}: error: {error}", file=sys.stderr)
        return 1
    return 0
