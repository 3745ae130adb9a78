"""Detectron2 as a wheel that needs no compiler, for environments without one of their own.

tools/setup_env.py uses this before anything is installed, so it needs the standard library alone.
"""

import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

from .names import in_clone

REQUIREMENT = Path(__file__).with_name("requirements-detectron2.txt")

# Small programs for the environment's own Python, whose answers are their standard output.
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


class SetupError(Exception):
    """A step that failed, as the one message the user reads."""


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
            f"  environment has none{': make VENV=.venv-nl setup' if in_clone() else ''}"
        ) from None


def install_detectron2(python: Path, site: Path) -> None:
    """Put the pinned wheel into site-packages: whole, or not at all."""
    with tempfile.TemporaryDirectory(prefix=".nl_detectron-", dir=site) as folder:
        # Its tag is Python 3.10: elsewhere pip needs --python-version, and with it --target.
        arguments = ["--no-deps", "--only-binary=:all:", "--python-version", "3.10"]
        arguments += ["--require-hashes", "--target", folder]
        arguments += ["-r", str(REQUIREMENT)]
        pip_install(python, f"the Detectron2 wheel ({REQUIREMENT.name})", *arguments)
        staged = Path(folder)
        for binary in staged.glob("detectron2/_C*.so"):
            if probe(python, "import torch, detectron2._C", PYTHONPATH=folder).returncode:
                binary.unlink()
        # The wheel's third part is a top-level package `tools`, which would shadow other tools/.
        for part in (*staged.glob("*.dist-info"), staged / "detectron2"):
            shutil.rmtree(site / part.name, ignore_errors=True)
            part.rename(site / part.name)
