"""Set up the environment that everything here runs in: torch, Detectron2 and this project.

    python3 tools/setup_env.py --venv .venv [--dev]    # what `make setup` calls
    python3 tools/setup_env.py --here [--dev]          # into the environment of this Python

A Detectron2 that imports already is kept, with the torch it was compiled against. Only the standard
library is used, and the version check comes before anything that an old Python cannot evaluate.
"""

import argparse
import importlib.util
import os
import shlex
import shutil
import subprocess
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
MARKER = ".nl_detectron-venv"  # in every environment made here; no other folder is ever deleted

# Small programs for the environment's own Python, whose answers are their standard output.
VERSION = "import sys; print(*sys.version_info[:3])"
SITE_PACKAGES = "import sysconfig; print(sysconfig.get_path('purelib'))"
DETECTRON2_ORIGIN = """
import importlib.util
spec = importlib.util.find_spec("detectron2")
print(spec.origin or "" if spec else "")
"""
DETECTRON2_IMPORTS = """
import detectron2, detectron2.model_zoo
print(getattr(detectron2, "__version__", "(no version)"), "at", *detectron2.__path__)
"""
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


class SetupError(Exception):
    """A step that failed, as the one message the user reads."""


def say(text: str) -> None:
    """Tell the user how far it is, at once even through a pipe."""
    print(text, flush=True)


def run(command: list, **options) -> subprocess.CompletedProcess:
    """Run a command and keep what it prints."""
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, **options)


def probe(python: Path, program: str, **environment: str) -> subprocess.CompletedProcess:
    """Run a small program, away from here so that it imports what is installed and no more."""
    return run([python, "-c", program], cwd="/", env={**os.environ, **environment})


def ask(python: Path, program: str) -> str:
    """The last line a small program prints, or SetupError with the last line of its error."""
    answer = probe(python, program)
    if answer.returncode:
        raise SetupError(last_line(answer.stderr))
    return last_line(answer.stdout)


def last_line(text: str) -> str:
    """The last line with anything on it."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def pip_verdict(output: str) -> str:
    """Why pip failed, in its own words: its last error, and what the network said."""
    lines = output.splitlines()
    errors = [line for line in lines if line.lower().startswith("error:")]
    errors = [line for line in errors if "ResolutionImpossible" not in line] or errors
    broken = [line.split("connection broken by ")[1] for line in lines if "broken by " in line]
    verdict = errors[-1] if errors else last_line(output)
    return verdict + ("\n  the network: " + broken[-1] if broken else "")


def pip_install(python: Path, what: str, *arguments: str) -> None:
    """Install with the environment's pip; SetupError says what failed, why, and what to do."""
    command = [python, "-m", "pip", "install", "--quiet", "--no-input"]
    command += ["--disable-pip-version-check", *arguments]
    done = run(command)
    if done.returncode:
        raise SetupError(
            f"pip could not install {what}.\n"
            f"  pip said: {pip_verdict(done.stdout + done.stderr)}\n"
            "  Check the network, the proxy, the package index that pip is set to use (pip config\n"
            "  list) and the free disk space (several GB), then run the same command again.\n"
            f"  To see all that pip says: {shlex.join(map(str, command)).replace(' --quiet', '')}"
        )


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


def provide_detectron2(python: Path) -> str:
    """Keep the Detectron2 that imports, or install the pinned wheel; the answer says which."""
    try:
        return "keeping " + ask(python, DETECTRON2_IMPORTS)
    except SetupError as error:
        fault = str(error)
    site = Path(ask(python, SITE_PACKAGES))
    origin = ask(python, DETECTRON2_ORIGIN)
    ours = list(site.glob("sal_detectron2-*.dist-info")) and Path(origin).parent.parent == site
    if origin and not ours:
        raise SetupError(
            f"There is a Detectron2 at {Path(origin).parent}, but it does not import:\n"
            f"  {fault}\n"
            "  Mend it, or remove it (pip uninstall detectron2) to get the pinned wheel instead."
        )
    install_detectron2(python, site)
    try:
        return "installed " + ask(python, DETECTRON2_IMPORTS)
    except SetupError as error:
        raise SetupError(
            f"Detectron2 was installed, but does not import: {error}\n"
            "  Another package in this environment may be too new or too old for it; a fresh\n"
            "  environment has none: make VENV=.venv-nl setup"
        ) from None


def install_detectron2(python: Path, site: Path) -> None:
    """Put the pinned wheel into site-packages: whole, or not at all."""
    with tempfile.TemporaryDirectory(prefix=".nl_detectron-", dir=site) as folder:
        # Tagged for Python 3.10: elsewhere pip takes it only if told so, and only to a --target.
        arguments = ["--no-deps", "--only-binary=:all:", "--python-version", "3.10"]
        arguments += ["--require-hashes", "--target", folder]
        arguments += ["-r", str(ROOT / "requirements-detectron2.txt")]
        pip_install(python, "the Detectron2 wheel (requirements-detectron2.txt)", *arguments)
        staged = Path(folder)
        for binary in staged.glob("detectron2/_C*.so"):
            if probe(python, "import torch, detectron2._C", PYTHONPATH=folder).returncode:
                binary.unlink()
        # The wheel's third part is a top-level package `tools`, which would shadow other tools/.
        for part in (*staged.glob("*.dist-info"), staged / "detectron2"):
            shutil.rmtree(site / part.name, ignore_errors=True)
            part.rename(site / part.name)


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
