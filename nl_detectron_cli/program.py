"""Runs a program: one line for a user's mistake or a missing package, and no other's warnings."""

import logging
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

from . import names

# Warnings that packages give for themselves and that no user can act on, by their first words.
WARNINGS = (
    "`torch.jit.script",  # Detectron2 and fvcore script functions as they are imported
    "torch.jit.script",
    "pkg_resources is deprecated",
    "torch.meshgrid",
    "is_fx_tracing",  # a line of the log in newer versions
    "`is_fx_tracing",
    "`torch.cuda.amp",
    "`torch.cpu.amp",
    "`broadcast_buffers` is deprecated",  # Detectron2's DistributedDataParallel
    "CUDA initialization",
    "Can't initialize NVML",
    "__array__ implementation",
    "This DataLoader will create",
)
# Lines of their logs, by the logger and their first words.
LOG_LINES = {
    "torch.fx._symbolic_trace": "is_fx_tracing",
    "torch.utils.cpp_extension": "No CUDA runtime is found",
}


def ignore_known_warnings() -> None:
    """Ignore :data:`WARNINGS` and :data:`LOG_LINES` in this process, and the warnings in those that
    it starts too."""
    for start in WARNINGS:
        warnings.filterwarnings("ignore", message=re.escape(start))
    for name in LOG_LINES:
        logging.getLogger(name).addFilter(_is_for_users)
    ours = [f"ignore:{start}" for start in WARNINGS]
    others = [one for one in os.environ.get("PYTHONWARNINGS", "").split(",") if one not in ours]
    # processes read it before they import anything; of several that fit, the last one counts
    os.environ["PYTHONWARNINGS"] = ",".join([*ours, *filter(None, others)])


def _is_for_users(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith(LOG_LINES[record.name])


def run(main: Callable[[], int | None], interrupted: str = "stopped") -> None:
    """Call a program's ``main``, and end with its exit code unless it is 0.

    A mistake of the user's, a package that is not installed and Ctrl-C end it with one line.

    Args:
        main: returns the exit code, or None for 0.
        interrupted: what to say after Ctrl-C.
    """
    name = names.running_program()
    ignore_known_warnings()
    try:
        if code := main():
            sys.exit(code)
    except KeyboardInterrupt:
        print(f"{name}: {interrupted}", file=sys.stderr)
        sys.exit(130)
    except ImportError as error:
        if not (message := explain_import_error(error)):
            raise
        sys.exit(f"{name}: error: {message}")
    except Exception as error:
        if not is_usage_error(error):
            raise
        sys.exit(f"{name}: error: {error}")


def is_usage_error(error: BaseException) -> bool:
    """Whether an error is a ``UsageError`` of nl_detectron, which need not have been imported."""
    errors = sys.modules.get("nl_detectron.errors")
    return errors is not None and isinstance(error, errors.UsageError)


def explain_import_error(error: ImportError) -> str:
    """What to do if an import failed because a package is not installed; "" if it did not."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ModuleNotFoundError):
        cause = cause.__cause__
    if cause is None:
        return ""
    package = (cause.name or "").split(".")[0]
    if package.startswith("nl_detectron"):
        return ""
    environment = names.ROOT / ".venv"
    where = f"the package {package} is not installed for {sys.executable}"
    if environment.is_dir() and Path(sys.prefix).resolve() != environment.resolve():
        return f"{where}; activate the environment first: source {environment}/bin/activate"
    if names.in_clone():
        return f"{where}; install it with the others: make setup (docs/installation.md)"
    if package == "detectron2":
        return f"{where}; install your own, or a wheel that needs no compiler: nl-detectron setup"
    return f"{where}; install it with the others: pip install --upgrade nl_detectron"
