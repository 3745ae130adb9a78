"""The command line of train_net.py: Detectron2's parser with options of this package."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from types import ModuleType

from ..errors import UsageError
from .batch import scale_batch, scaled_keys
from .dataset_overrides import get
from .loading import load_run
from .run import Config, Run


def argument_parser() -> ArgumentParser:
    """Return the parser of train_net.py: Detectron2's options with ``--dataset``, ``--batch-size``,
    ``--no-check`` and the trust options."""
    return _options().make_training_parser()


def add_dataset_argument(parser: ArgumentParser) -> None:
    """Add ``--dataset`` to a parser; :func:`load_config` takes the resulting ``args.dataset``."""
    _options().add_dataset_argument(parser)


def _options() -> ModuleType:
    """The command lines, which can be imported without this package."""
    from nl_detectron_cli import options

    return options


def make_output(folder: Path) -> None:
    """Make the folder of ``--output`` if it does not exist.

    Raises:
        UsageError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"--output {folder}: expected a folder, or a place to make one ({error.strerror})"
        ) from error


def config_from_args(args: Namespace) -> Config:
    """Load the config of a parsed command line: a YAML file or a LazyConfig, with overrides.

    Sets ``args.notes`` to lines on what was adapted or scaled, which ``start_run`` logs.

    Raises:
        UsageError: as in :func:`load_config` and :func:`scale_batch`, or ``--batch-size``
            contradicts an override.
    """
    args.notes = []
    run = load_run(args.config_file, args.opts, args.dataset, args.notes.append)
    return run.cfg if args.batch_size is None else _with_batch(run, args)


def _with_batch(run: Run, args: Namespace) -> Config:
    """Scale the config to ``--batch-size``, except for keys that the user overrides."""
    cfg, key, batch = run.cfg, run.keys["batch_size"], args.batch_size
    given = {override.lstrip("+").split("=")[0] for override in args.opts}
    if key in given or run.reference_world_size:
        key = key if key in given else "SOLVER.REFERENCE_WORLD_SIZE"
        raise UsageError(f"--batch-size {batch}, but {key} sets the batch too: give one of them")
    keys = scaled_keys(cfg)
    kept = [key for key in keys if key in given]
    scaled = scale_batch(cfg, batch, kept)
    values = {k: (get(cfg, k), get(scaled, k)) for k in (key, *keys)}
    notes = [f"{k} {before} -> {after}" for k, (before, after) in values.items() if before != after]
    notes += [f"{key} {get(cfg, key)} as given" for key in kept]
    args.notes.append(f"--batch-size {batch}: {', '.join(notes) or 'the config has it already'}")
    return scaled
