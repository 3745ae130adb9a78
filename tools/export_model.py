#!/usr/bin/env python3
"""Export a model: the whole detector as TorchScript, or its backbone as ONNX or by torch.export.

The program is nl_detectron_cli/programs/export.py; `nl-detectron export` is the same.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.program import run
from nl_detectron_cli.programs.export import main

if __name__ == "__main__":
    run(main)
