#!/usr/bin/env python3
"""Make a trained checkpoint ready to be given away, and known to the model zoo by a name.

python tools/publish_checkpoint.py output --name birds/mask_rcnn_nl --output zoo

Takes what train_net.py has left: a run's folder, or a checkpoint in it. The folder --output gets

NAME-HASH.pth    the weights and no optimizer, with config, data set, results and versions
NAME-HASH.yaml   that config, where the package has none of this name
index.yaml       an entry for it, beside those of earlier calls

and nl_detectron.model_zoo finds NAME where NL_DETECTRON_ZOO names that index.
"""

import argparse
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.options import Parser, add_checkpoint_argument
from nl_detectron_cli.program import run


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    # these take seconds, which --help need not
    from nl_detectron.engine import trust_from_args
    from nl_detectron.model_zoo.publishing import publish_checkpoint

    checkpoint = args.run / "model_final.pth" if args.run.is_dir() else args.run
    with trust_from_args(args):
        publish_checkpoint(checkpoint, args.name, args.output)


def parse_arguments(words: Sequence[str] | None) -> Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, help="OUTPUT_DIR of a run (its model_final.pth), or a checkpoint in it")
    add("--name", required=True, help="a config's path below configs/, or a name of your own")
    add("--output", type=Path, required=True, help="folder of what is published")
    add_checkpoint_argument(parser)
    args = parser.parse_args(words)
    args.name = args.name.removesuffix(".yaml")
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", args.name):
        parser.error(f"--name {args.name}: expected words as in birds/mask_rcnn_nl")
    return args


if __name__ == "__main__":
    run(main)
