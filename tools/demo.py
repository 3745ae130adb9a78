#!/usr/bin/env python3
"""Draw what a model finds in images, videos or a camera, and where its non-local blocks look.

The program is nl_detectron_cli/programs/demo.py; `nl-detectron demo` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.demo import INTERRUPTED, main

if __name__ == "__main__":
    run(main, INTERRUPTED)
