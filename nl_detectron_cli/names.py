"""How this process's user starts the programs: ``nl-detectron check``, or in a clone
``python tools/check_dataset.py``."""

import sys
from pathlib import Path

COMMAND = "nl-detectron"
# words after nl-detectron, and the scripts of a clone that do the same
SCRIPTS = {
    "setup": "tools/setup_env.py",
    "train": "train_net.py",
    "eval": "train_net.py",
    "demo": "tools/demo.py",
    "explore": "tools/explore.py",
    "check": "tools/check_dataset.py",
    "convert": "tools/convert_weights.py",
    "export": "tools/export_model.py",
    "publish": "tools/publish_checkpoint.py",
    "analyze": "tools/analyze_model.py",
    "reproduce": "tools/reproduce.py",
}
ROOT = Path(__file__).resolve().parents[1]  # of a clone; where packages are installed otherwise


def in_clone() -> bool:
    """Whether this package is that of a clone, which has the scripts beside it."""
    return (ROOT / SCRIPTS["train"]).is_file()


def is_command() -> bool:
    """Whether this process was started as ``nl-detectron`` or ``python -m nl_detectron_cli``."""
    started = Path(sys.argv[0])
    return started.stem == COMMAND or started.parts[-2:] == (__package__, "__main__.py")


def running_program() -> str:
    """The name of the program that runs, which begins its errors: ``demo.py``, ``nl-detectron
    demo``."""
    if not is_command():
        return Path(sys.argv[0]).name
    words = [word for word in sys.argv[1:2] if word in SCRIPTS]
    return " ".join([COMMAND, *words])


def short_program_name(program: str) -> str:
    """The name of a program in its notes: ``demo.py``, or ``nl-detectron demo``.

    Args:
        program: a key of :data:`SCRIPTS`, as in all functions below.
    """
    return program_name(program).rpartition("/")[2]


def program_name(program: str) -> str:
    """The name of a program in a sentence: ``tools/demo.py``, or ``nl-detectron demo``."""
    if is_command() or not in_clone():
        return f"{COMMAND} {program}"
    return SCRIPTS[program]


def program_command(program: str) -> str:
    """What starts a program: ``python tools/demo.py``, or ``nl-detectron demo``."""
    started = program_name(program)
    return started if started.startswith(COMMAND) else f"python {started}"


def install_command(extra: str) -> str:
    """What installs the packages of an extra, explore or export, beside this one."""
    if in_clone():
        return f"pip install -r requirements-{extra}.txt"
    return f"pip install 'nl_detectron[{extra}]'"


def setup_command() -> str:
    """What installs Detectron2 into this environment."""
    started = program_command("setup")
    return started if started.startswith(COMMAND) else f"{started} --here"
