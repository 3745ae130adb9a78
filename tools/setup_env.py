"""Set up the environment that everything here runs in: torch, Detectron2 and this project.

    python3 tools/setup_env.py --venv .venv [--dev]    # what `make setup` calls
    python3 tools/setup_env.py --here [--dev]          # into the environment of this Python

A Detectron2 that imports already is kept, with the torch it was compiled against. Only the standard
library is used, and the version check comes before anything that an old Python cannot evaluate.
"""

import argparse
import importlib.util
import os
import shutil
import sys
import tempfile
from pathlib import Path

MINIMUM_PYTHON = (3, 10)


def python_problem(version_info, executable=sys.executable):
    """What is wrong with a Python of this version, or "" if nothing is."""
    found = tuple(version_info[:3])
    if found >= MINIMUM_PYTHON:
        return ""
    return (
        "nl_detectron needs Python {}.{} or newer, but {} is Python {}.\n"
        "  Name a newer one, for example: make PYTHON=python3.11 setup"
    ).format(*MINIMUM_PYTHON, executable, ".".join(map(str, found)))


if __name__ == "__main__" and python_problem(sys.version_info):
    sys.exit(python_problem(sys.version_info))

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this clone, which is not installed yet

from nl_detectron_cli.detectron2_wheel import (  # noqa: E402
    SetupError,
    ask,
    last_line,
    pip_install,
    probe,
    provide_detectron2,
    run,
)

MARKER = ".nl_detectron-venv"  # in every environment made here; no other folder is ever deleted

# Small programs for the environment's own Python, whose answers are their standard output.
VERSION = "import sys; print(*sys.version_info[:3])"
COMPILED_AGAINST = """
import importlib.util
from importlib.metadata import distributions
if importlib.util.find_spec("detectron2._C"):
    for found in distributions():
        if found.metadata["Name"] in ("torch", "torchvision"):
            print(found.metadata["Name"] + "==" + found.version)
"""
EVERYTHING_IMPORTS = """
import detectron2, nl_detectron, torch
cuda = "with" if torch.cuda.is_available() else "without"
print("torch", torch.__version__, cuda, "a CUDA device")
"""


def say(text: str) -> None:
    """Tell the user how far it is, at once even through a pipe."""
    print(text, flush=True)


def prepare_venv(venv: Path) -> Path:
    """The Python of the virtual environment at `venv`, which is made where there is none."""
    python = venv / "bin" / "python"
    if runs(python):
        return python
    if (venv / MARKER).is_file():
        say(f"      {venv} is unfinished or has lost its Python: making it again")
        shutil.rmtree(venv)
    elif venv.exists() and (not venv.is_dir() or any(venv.iterdir())):
        raise SetupError(
            f"{venv} is there, but has no bin/python that runs: it is no virtual environment.\n"
            "  Nothing in it was changed. Move it away, or choose another folder, for example:\n"
            "  make VENV=.venv-nl setup"
        )
    if importlib.util.find_spec("ensurepip") is None:
        raise SetupError(
            f"{sys.executable} cannot make virtual environments: its ensurepip module is missing.\n"
            "  On Debian and Ubuntu: apt install python3-venv. Then run the same command again."
        )
    venv.mkdir(parents=True, exist_ok=True)
    (venv / MARKER).touch()
    made = run([sys.executable, "-m", "venv", venv])
    if made.returncode:
        raise SetupError(
            f"{sys.executable} -m venv {venv} failed: {last_line(made.stdout + made.stderr)}\n"
            "  Mend that, or choose another Python: make PYTHON=python3.11 setup"
        )
    return python


def runs(python: Path) -> bool:
    """Whether this is an interpreter that starts."""
    try:
        return probe(python, "").returncode == 0
    except OSError:
        return False


def check_python(python: Path) -> None:
    """SetupError unless the environment's Python is recent enough and has pip."""
    problem = python_problem([int(part) for part in ask(python, VERSION).split()], python)
    if problem:
        raise SetupError(problem)
    if run([python, "-m", "pip", "--version"]).returncode == 0:
        return
    if run([python, "-m", "ensurepip"]).returncode:
        raise SetupError(
            f"{python} has no pip, and its ensurepip module could not add it.\n"
            "  Install pip into that environment, or choose another: make VENV=.venv-nl setup"
        )


def install_requirements(python: Path, dev: bool) -> None:
    """Install the requirements beside whatever a compiled Detectron2 needs to keep."""
    files = ["requirements.txt"] + (["requirements-dev.txt"] if dev else [])
    arguments = [word for name in files for word in ("-r", str(ROOT / name))]
    compiled = probe(python, COMPILED_AGAINST)
    with tempfile.TemporaryDirectory() as folder:
        if compiled.returncode == 0 and compiled.stdout:
            # Another torch would break operators that were compiled against this one.
            kept = Path(folder, "kept.txt")
            kept.write_text(compiled.stdout, encoding="utf-8")
            pins = " ".join(compiled.stdout.split())
            say(f"      keeping what your Detectron2 was compiled against: {pins}")
            arguments += ["-c", str(kept)]
        pip_install(python, " and ".join(files), *arguments)


def install_project(python: Path) -> str:
    """Install this checkout in place, check that all imports together, and say with which torch."""
    # The requirements brought the setuptools that builds it, so nothing is downloaded here.
    arguments = ["--no-deps", "--no-build-isolation", "-e", str(ROOT)]
    pip_install(python, "nl_detectron itself", *arguments)
    try:
        return ask(python, EVERYTHING_IMPORTS)
    except SetupError as error:
        raise SetupError(
            f"Everything is installed, but nl_detectron does not import: {error}\n"
            f"  To see all of it: {python} -c 'import nl_detectron'"
        ) from None


def set_up(venv: "Path | None", dev: bool) -> None:
    """All steps in order, with a line for each; SetupError at the first that fails."""
    say(f"[1/4] environment: {venv or sys.prefix}")
    python = prepare_venv(venv) if venv else Path(sys.executable)
    check_python(python)
    say("[2/4] torch and the rest (several GB and a few minutes the first time) ...")
    install_requirements(python, dev)
    say("[3/4] Detectron2 ...")
    say(f"      {provide_detectron2(python)}")
    say("[4/4] nl_detectron ...")
    say(f"      ready: {install_project(python)}")


def main(arguments: "list[str] | None" = None) -> int:
    """Parse, set up, and turn every failure into one message and exit code 1."""
    parser = argparse.ArgumentParser(description="Set up the environment for nl_detectron.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--venv", help="virtual environment to use; made if it does not exist")
    where.add_argument("--here", action="store_true", help="install for the Python that runs this")
    parser.add_argument("--dev", action="store_true", help="also what the tests and checks need")
    options = parser.parse_args(arguments)
    venv = Path(os.path.abspath(options.venv)) if options.venv else None
    try:
        set_up(venv, options.dev)
    except SetupError as error:
        print(f"\nSet-up stopped: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"\nSet-up stopped: {error}\n"
            "  Check that the folder is yours to write and the disk has room, then run it again.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:
        print("\nSet-up was interrupted; the same command goes on from here.", file=sys.stderr)
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
