#!/usr/bin/env python3
"""Open a local page: click into an image and see what each non-local block attends to there.

The program is nl_detectron_cli/programs/explore.py; `nl-detectron explore` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.explore import main

if __name__ == "__main__":
    run(main)
