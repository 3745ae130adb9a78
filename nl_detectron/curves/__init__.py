"""Curves of losses and AP over iterations: groups of runs against each other, over their seeds."""

from .figure import draw_curves, output_files, save_figure
from .records import load_records
from .runs import group_runs

__all__ = ["draw_curves", "group_runs", "load_records", "output_files", "save_figure"]
