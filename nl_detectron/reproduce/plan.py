"""The runs that a table needs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError
from ..model_zoo.zoo import CONFIGS
from .paper_tables import TABLES, Row, Table
from .training_run import TrainingRun, scale_overrides


@dataclass(frozen=True)
class Settings:
    """How a table is trained.

    Attributes:
        table: a key of ``TABLES``.
        schedule: 1x or 3x; "" for a table without schedules.
        num_gpus: 0 for the CPU.
        seeds: a run of each.
        output: folder of runs and tables.
        opts: KEY VALUE overrides of all runs.
    """

    table: str
    schedule: str
    num_gpus: int
    seeds: Sequence[int]
    output: Path
    opts: Sequence[str] = ()


@dataclass(frozen=True)
class Plan:
    """The runs of a table.

    Attributes:
        settings: how they are trained.
        table: the table, of the rows that were chosen.
        rows: by a row's name, a run for each seed.
    """

    settings: Settings
    table: Table
    rows: dict[str, list[TrainingRun]]

    @property
    def runs(self) -> list[TrainingRun]:
        """All runs by seed, so that a whole table of one seed is there early."""
        return [run for seed in zip(*self.rows.values(), strict=True) for run in seed]


def plan_table(settings: Settings, only: Sequence[str] = ()) -> Plan:
    """The runs of a table; rows of different tables that are the same model share theirs.

    Args:
        settings: how to train.
        only: take the rows whose config has one of these in its name, and their twins.

    Raises:
        UsageError: no such row, an unknown override, a batch that cannot be scaled, or a folder
            that holds a run of other settings.
    """
    table = select_rows(TABLES[settings.table], only)
    rows = {}
    for row in table["rows"]:
        config = "_".join(filter(None, [row["config"], settings.schedule]))
        file = CONFIGS / f"{config}.yaml"
        opts = scale_overrides(file, settings.opts, settings.num_gpus, table["gpus"])
        folder = settings.output / folder_name(config)
        rows[row["name"]] = [
            TrainingRun(
                f"{config}.yaml",
                (*opts, *starting_weights(row, settings, seed)),
                seed,
                folder / f"seed{seed}",
                settings.num_gpus,
            )
            for seed in settings.seeds
        ]
    plan = Plan(settings, table, rows)
    for run in plan.runs:
        run.check_folder()
    return plan


def folder_name(config: str) -> str:
    """The folder of a config's runs; a Charades model has the name of its Kinetics model."""
    path = Path(config)
    return f"charades_{path.name}" if path.parent.name == "Charades" else path.name


def starting_weights(row: Row, settings: Settings, seed: int) -> tuple[str, ...]:
    """Overrides that start a run from the trained weights that its row names, of the same seed."""
    if "start" not in row or "MODEL.WEIGHTS" in settings.opts[::2]:
        return ()
    trained = settings.output / folder_name(row["start"]) / f"seed{seed}" / "model_final.pth"
    return "MODEL.WEIGHTS", str(trained)


def select_rows(table: Table, parts: Sequence[str]) -> Table:
    """A table's rows whose config has one of ``parts`` in its name, and their twins.

    Raises:
        UsageError: no row is left.
    """
    if not parts:
        return table
    chosen = [row for row in table["rows"] if any(part in row["config"] for part in parts)]
    names = {row["name"] for row in chosen} | {row.get("twin") for row in chosen}
    if not chosen:
        configs = ", ".join(Path(row["config"]).name for row in table["rows"])
        raise UsageError(f"--only {' '.join(parts)}: none of this table's configs: {configs}")
    return {**table, "rows": [row for row in table["rows"] if row["name"] in names]}


def describe_runs(runs: Sequence[TrainingRun]) -> str:
    """State, folder and command of each run."""
    finished = sum(run.finished for run in runs)
    parts = [f"{len(runs)} runs, {finished} of them finished"]
    parts += [f"{run}: {run.state}\n  in {run.folder}\n  {run.command_line}" for run in runs]
    return "\n\n".join(parts)
