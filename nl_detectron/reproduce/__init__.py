"""The paper's tables, trained: the plan of runs, the training, and the table with the results."""

from .paper_tables import TABLES
from .plan import Plan, Settings, describe_runs, plan_table
from .report import write_table
from .training import train_plan

__all__ = [
    "TABLES",
    "Plan",
    "Settings",
    "describe_runs",
    "plan_table",
    "train_plan",
    "write_table",
]
