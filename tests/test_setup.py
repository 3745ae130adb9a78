"""Setting up: tools/setup_env.py and the Makefile around it.

Nothing is downloaded: the environments here hold stand-ins, a recording pip among them.
"""

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pip
import pytest

from nl_detectron_cli.detectron2_wheel import pip_verdict

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "setup_env.py"
STAMP = ".nl_detectron-setup"

RECORDING_PIP = """
    import sys
    from pathlib import Path
    log = Path(__file__).with_name("log.txt")
    with log.open("a") as lines:
        print(*sys.argv[1:], file=lines)
        if "-c" in sys.argv:
            kept = Path(sys.argv[sys.argv.index("-c") + 1]).read_text()
            print("kept:", *kept.split(), file=lines)
    if "--target" in sys.argv:
        target = Path(sys.argv[sys.argv.index("--target") + 1])
        for name in ("detectron2/__init__.py", "detectron2/model_zoo.py", "tools/__init__.py",
                     "detectron2/_C.cpython-310-x86_64-linux-gnu.so",
                     "sal_detectron2-0.7.2.dist-info/METADATA"):
            (target / name).parent.mkdir(exist_ok=True)
            (target / name).write_text("")
        {after_download}
"""
TORCH = """
    __version__ = "2.5.0"
    class cuda:
        is_available = staticmethod(lambda: {cuda})
"""


def load_script():
    """tools/setup_env.py as a module; tools/ is no package."""
    spec = importlib.util.spec_from_file_location("setup_env", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


setup_env = load_script()


class Environment:
    """A virtual environment without a real package in it."""

    def __init__(self, folder: Path):
        venv.create(folder, with_pip=False, symlinks=True)
        self.folder = folder
        (self.site,) = folder.glob("lib/python*/site-packages")

    def add(self, name: str, text: str = "") -> Path:
        """Write a file into site-packages."""
        path = self.site / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        return path

    def add_stand_ins(self, after_download: str = "") -> None:
        """A pip that records its calls, and what the last step imports."""
        self.add("pip/__init__.py")
        self.add("pip/__main__.py", RECORDING_PIP.format(after_download=after_download))
        self.add("torch.py", TORCH.format(cuda=False))
        self.add("nl_detectron.py")

    def set_up(self) -> int:
        """Run the program on this environment; the answer is its exit code."""
        return setup_env.main(["--venv", str(self.folder)])

    def pip_calls(self) -> str:
        """What the recording pip was asked, a line for each call."""
        return (self.site / "pip" / "log.txt").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def offline(monkeypatch) -> None:
    """Neither a package index nor this machine's settings reach a test."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    inherited = ("PIP_FIND_LINKS", "PIP_CONSTRAINT", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "ARGS")
    for name in inherited:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def environment(tmp_path) -> Environment:
    """A fresh environment with nothing in it."""
    return Environment(tmp_path / "env")


def make(*arguments: str) -> subprocess.CompletedProcess:
    """Run make in the checkout."""
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True)


def test_an_old_python_is_reported_what_is_needed_and_what_to_do():
    message = setup_env.python_problem((3, 9, 18, "final", 0), "/usr/bin/python3")
    assert "3.10 or newer" in message
    assert "/usr/bin/python3 is Python 3.9.18" in message
    assert "make PYTHON=" in message
    assert setup_env.python_problem((3, 10, 0, "final", 0)) == ""


def test_an_old_python_stops_at_the_version_check(tmp_path):
    pretend = (
        "import argparse, importlib.util, pathlib, shlex, shutil, subprocess, tempfile\n"
        "import runpy, sys\n"
        "sys.version_info = (3, 6, 15, 'final', 0)\n"
        f"sys.argv = ['setup_env.py', '--venv', {str(tmp_path / 'new')!r}]\n"
        f"runpy.run_path({str(SCRIPT)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", pretend], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("nl_detectron needs Python 3.10")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_failed_download_ends_in_one_message_without_a_stamp(environment):
    (environment.site / "pip").symlink_to(Path(pip.__file__).parent)
    done = make("setup", f"VENV={environment.folder}", f"PYTHON={sys.executable}")
    assert done.returncode != 0
    assert done.stderr.count("Set-up stopped:") == 1
    assert "pip could not install requirements.txt and requirements-dev.txt" in done.stderr
    assert "No matching distribution found for torch" in done.stderr
    assert "Check the network" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (environment.folder / STAMP).exists()


def test_the_networks_own_complaint_is_passed_on():
    verdict = pip_verdict(
        "WARNING: Retrying (total=0) after connection broken by 'ProxyError(refused)': /torch/\n"
        "ERROR: Could not find a version that satisfies the requirement torch\n"
        "ERROR: No matching distribution found for torch\n"
    )
    assert verdict.startswith("ERROR: No matching distribution found for torch")
    assert "ProxyError(refused)" in verdict


def test_a_missing_make_python_is_named(tmp_path):
    done = make("setup", f"VENV={tmp_path / 'new'}", "PYTHON=no-such-python")
    assert done.returncode != 0
    assert done.stderr.startswith("There is no 'no-such-python' here.")


def test_a_detectron2_that_imports_is_kept(environment, capsys):
    environment.add_stand_ins()
    environment.add("detectron2/__init__.py", "__version__ = '9.9'")
    environment.add("detectron2/model_zoo.py")
    assert environment.set_up() == 0
    assert f"keeping 9.9 at {environment.site / 'detectron2'}" in capsys.readouterr().out
    assert "requirements-detectron2.txt" not in environment.pip_calls()


def test_a_compiled_detectron2_keeps_its_torch(environment):
    environment.add_stand_ins()
    environment.add("detectron2/__init__.py")
    environment.add("detectron2/model_zoo.py")
    environment.add("detectron2/_C.py")
    environment.add("torch-2.5.0.dist-info/METADATA", "Name: torch\nVersion: 2.5.0\n")
    assert environment.set_up() == 0
    assert "kept: torch==2.5.0\n" in environment.pip_calls()


@pytest.mark.slow
def test_a_missing_detectron2_comes_from_the_pinned_wheel(environment):
    environment.add_stand_ins()
    assert environment.set_up() == 0
    (call,) = (line for line in environment.pip_calls().splitlines() if "--target" in line)
    assert "--require-hashes" in call
    assert call.endswith("requirements-detectron2.txt")
    assert (environment.site / "detectron2" / "model_zoo.py").is_file()
    assert (environment.site / "sal_detectron2-0.7.2.dist-info").is_dir()
    assert not list(environment.site.glob("detectron2/_C*")), "its binary does not load here"
    assert not (environment.site / "tools").exists(), "it would shadow other tools/"


@pytest.mark.slow
def test_a_wheel_that_came_half_is_not_trusted(environment, capsys):
    environment.add_stand_ins(after_download="sys.exit('ERROR: connection reset')")
    before = sorted(environment.site.iterdir())
    assert environment.set_up() == 1
    message = capsys.readouterr().err
    assert "could not install the Detectron2 wheel" in message
    assert "ERROR: connection reset" in message
    assert sorted(environment.site.iterdir()) == before


@pytest.mark.slow
def test_a_damaged_wheel_of_ours_is_replaced(environment):
    environment.add_stand_ins()
    environment.add("detectron2/__init__.py", "raise ImportError('cut short')")
    environment.add("sal_detectron2-0.7.2.dist-info/METADATA")
    assert environment.set_up() == 0
    assert (environment.site / "detectron2" / "__init__.py").read_text() == ""


def test_someone_elses_detectron2_is_never_replaced(environment, capsys):
    environment.add_stand_ins()
    theirs = environment.add("detectron2/__init__.py", "raise ImportError('no libcudart.so.11')")
    assert environment.set_up() == 1
    message = capsys.readouterr().err
    assert f"There is a Detectron2 at {theirs.parent}" in message
    assert "no libcudart.so.11" in message
    assert "no libcudart.so.11" in theirs.read_text()


@pytest.mark.parametrize("name", ["notes.txt", "pyvenv.cfg"])
def test_a_folder_that_was_not_made_here_is_never_deleted(tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert setup_env.main(["--venv", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert f"{tmp_path} is there, but has no bin/python that runs" in message
    assert "make VENV=" in message
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_an_unfinished_environment_of_ours_is_made_again(tmp_path, monkeypatch):
    commands = []

    def run(command, **options):
        if not Path(command[0]).exists():
            raise FileNotFoundError(command[0])
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(setup_env, "run", run)
    (tmp_path / setup_env.MARKER).touch()
    (tmp_path / "half").touch()
    setup_env.prepare_venv(tmp_path)
    assert commands == [[sys.executable, "-m", "venv", tmp_path]]
    assert [path.name for path in tmp_path.iterdir()] == [setup_env.MARKER]


def test_a_python_without_ensurepip_is_reported_which_package_to_get(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert setup_env.main(["--venv", str(tmp_path / "new")]) == 1
    assert "apt install python3-venv" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_an_environment_that_stands_is_not_set_up_again(environment):
    (environment.folder / STAMP).touch()
    done = make("setup", f"VENV={environment.folder}", "PYTHON=no-such-python")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "cuda, line", [(False, "no CUDA device here: nothing to run"), (True, "pytest asked: -m gpu")]
)
def test_gpu_tests_run_only_where_there_is_a_cuda_device(environment, cuda, line):
    environment.add("torch.py", TORCH.format(cuda=cuda))
    environment.add("pytest.py", "import sys; print('pytest asked:', *sys.argv[1:])")
    (environment.folder / STAMP).touch()
    done = make("test-gpu", f"VENV={environment.folder}")
    assert done.returncode == 0, done.stderr
    assert line in done.stdout.splitlines()


def test_make_alone_lists_every_target():
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    listed = re.findall(r"^  ([a-z-]+)  +\S", make().stdout, re.MULTILINE)
    assert listed == phony[1].split()


def test_clean_leaves_the_environment(tmp_path):
    for name in (".venv", "output", ".pytest_cache", "nl_detectron/__pycache__", "datasets"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("tools", "tests", "configs", "benchmarks"):
        (tmp_path / name).mkdir()
    done = make("-C", str(tmp_path), "-f", str(ROOT / "Makefile"), "clean")
    assert done.returncode == 0, done.stderr
    left = {path.name for path in tmp_path.iterdir()}
    assert left - {".venv", "datasets"} == {
        "nl_detectron",
        "tools",
        "tests",
        "configs",
        "benchmarks",
    }
    assert not list((tmp_path / "nl_detectron").iterdir())
