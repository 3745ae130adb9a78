#!/usr/bin/env python3
"""Print what a model and its non-local blocks cost: parameters, FLOPs, activation memory.

The program is nl_detectron_cli/programs/analyze.py; `nl-detectron analyze` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.analyze import main

if __name__ == "__main__":
    run(main)
