"""Runs a program: one line for a user's mistake or a missing package, and no other's warnings."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]  # of a clone
# Warnings that packages give for themselves and that no user can act on, by their first words.
WARNINGS = (
    r".?torch\.jit\.script",  # Detectron2 and fvcore script functions as they are imported
    r"pkg_resources is deprecated",
    r"torch\.meshgrid: in an upcoming release",
    r".?`?is_fx_tracing",
    r"`torch\.(cuda\.amp|cpu\.amp)",
    r"CUDA initialization: ",
    r"Can't initialize NVML",
    r"__array__ implementation",
    r"This DataLoader will create \d+ worker processes",
)


def ignore_known_warnings() -> None:
    """Ignore :data:`WARNINGS` in this process, and in those that it forks."""
    for start in WARNINGS:
        warnings.filterwarnings("ignore", message=start)


def run(main: Callable[[], int | None], interrupted: str = "stopped") -> None:
    """Call a program's ``main``, and end with its exit code unless it is 0.

    A mistake of the user's, a package that is not installed and Ctrl-C end it with one line.

    Args:
        main: returns the exit code, or None for 0.
        interrupted: what to say after Ctrl-C.
    """
    name = Path(sys.argv[0]).name
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
    environment = ROOT / ".venv"
    where = f"the package {package} is not installed for {sys.executable}"
    if environment.is_dir() and Path(sys.prefix).resolve() != environment.resolve():
        return f"{where}; activate the environment first: source {environment}/bin/activate"
    return f"{where}; install it with the others: make setup (docs/installation.md)"
