"""The project's own wheel carries the package and its configs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nl_detectron", "nl_detectron_cli")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's own, built from a copy of its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for part in (*PACKAGES, "configs"):
        copytree(ROOT / part, source / part, ignore=ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.txt"), *ROOT.glob("*.md"), ROOT / "LICENSE"):
        copy(file, source)
    copy(ROOT / "pyproject.toml", source)
    copy(ROOT / "setup.py", source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--wheel-dir", folder, source], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_carries_the_package_and_its_configs(wheel):
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    configs = {path for path in (ROOT / "configs").rglob("*") if path.suffix in (".yaml", ".py")}
    assert configs
    expected = {f"nl_detectron/{path.relative_to(ROOT)}" for path in configs}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    expected |= {str(path.relative_to(ROOT)) for path in files}
    data = ("model_zoo/index.yaml", "reproduce/paper_tables.yaml", "py.typed")
    expected |= {f"nl_detectron/{name}" for name in data}
    assert carried == expected


@pytest.mark.slow
def test_an_installed_wheel_finds_its_configs(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml"
    program = (
        "from nl_detectron import model_zoo\n"
        f"model_zoo.get_config({name!r})\n"
        f"print(model_zoo.get_config_file({name!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(tmp_path / "site/nl_detectron/configs" / name)
