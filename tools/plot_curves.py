#!/usr/bin/env python3
"""Draw training loss and validation AP, or accuracy of videos, over iterations, as the paper's
Figure 4: kinds of runs against each other, the mean of a kind's seeds and a band from the least to
the most.

python tools/plot_curves.py output/relay_demo/relay_mask_rcnn output/relay_demo/relay_mask_rcnn_nl
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # this clone, installed or not

from nl_detectron_cli.options import Parser
from nl_detectron_cli.program import run


def main(words: Sequence[str] | None = None) -> None:
    args = parse_arguments(words)
    # takes seconds, which --help need not
    from nl_detectron.curves import draw_curves, group_runs, load_records, output_files, save_figure

    files = output_files(args.output)
    groups = load_records(group_runs(args.runs, args.group, say), say)
    figure = draw_curves(groups, args.loss, args.metric, args.smooth, say)
    for file in files:
        save_figure(figure, file)
        print(file)


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        description=" ".join(__doc__.split("\n\n")[0].split()),
        epilog="Runs in NAME/seed1, NAME/seed2 and so on are seeds of NAME; NAME alone is all of "
        "them. A kind's curve ends with the first of its runs to end.",
    )
    add = parser.add_argument
    add("runs", metavar="RUN", nargs="*", help="an OUTPUT_DIR, or its metrics.json")
    add("--group", metavar="NAME=RUN,RUN,...", action="append", default=[], help="seeds of NAME")
    add("--output", metavar="FILE", default="curves", help="curves.png, .svg, or curves: both")
    add("--loss", metavar="KEY", action="append", help="total_loss, loss_mask, ...; repeatable")
    add(
        "--metric",
        metavar="KEY",
        help="segm/AP, ...; by default the hardest task's AP or, of videos, video/top1_1view",
    )
    add("--smooth", metavar="N", type=int, default=1, help="losses: the median of N records")
    args = parser.parse_args(words)
    args.loss = args.loss or ["total_loss"]
    from nl_detectron.errors import UsageError

    if not (args.runs or args.group):
        raise UsageError("nothing to plot: give a RUN, the OUTPUT_DIR of a training, or --group")
    if args.smooth < 1:
        raise UsageError(f"--smooth: expected 1 (as it is) or more records, got {args.smooth}")
    return args


def say(note: str) -> None:
    print(f"plot_curves.py: {note}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
