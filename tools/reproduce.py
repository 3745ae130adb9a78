#!/usr/bin/env python3
"""Train the models of one of the paper's tables and fill the table in.

The program is nl_detectron_cli/programs/reproduce.py; `nl-detectron reproduce` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.reproduce import INTERRUPTED, main

if __name__ == "__main__":
    run(main, INTERRUPTED)
