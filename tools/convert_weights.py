#!/usr/bin/env python3
"""Convert weights from elsewhere: non-local blocks, and the ResNets that Detectron2 has too.

The program is nl_detectron_cli/programs/convert.py; `nl-detectron convert` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.convert import main

if __name__ == "__main__":
    run(main)
