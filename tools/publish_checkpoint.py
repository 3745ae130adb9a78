#!/usr/bin/env python3
"""Make a trained checkpoint ready to be given away, and known to the model zoo by a name.

The program is nl_detectron_cli/programs/publish.py; `nl-detectron publish` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.publish import main

if __name__ == "__main__":
    run(main)
