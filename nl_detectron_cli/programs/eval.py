"""Evaluate a trained detector: ``nl-detectron train --eval-only``.

nl-detectron eval --config-file output/config.yaml MODEL.WEIGHTS output/model_final.pth
"""

import sys
from collections.abc import Sequence

from . import train


def main(words: Sequence[str] | None = None) -> None:
    """As the program ``train``, with ``--eval-only``."""
    train.main(["--eval-only", *(sys.argv[1:] if words is None else words)])
