#!/usr/bin/env python3
"""Tell what is wrong with a data set in COCO's format, before a training runs into it.

The program is nl_detectron_cli/programs/check.py; `nl-detectron check` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.check import main

if __name__ == "__main__":
    run(main)
