"""Imports point one way: layers, then modeling, then the engine and the tools."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nl_detectron"

PREDICTION = {"attention", "config", "data", "engine", "errors", "modeling", "visualizer"}
# part: the other parts that it may know; parts not listed may know every part
MAY_IMPORT = {
    "errors": set(),
    "layers": set(),
    "config": set(),
    "data": set(),
    "modeling": {"layers", "config"},
    "visualizer": set(),
    "prediction": PREDICTION,
    "explorer": {*PREDICTION, "layers", "prediction"},
}


def imported_by(path: Path) -> set[str]:
    """Absolute names of everything that a file of the repository imports, wherever in it."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join((*base, *filter(None, [node.module])))
            # a name may be a module itself: from .. import data
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def files_of(part: str) -> list[Path]:
    return [*(PACKAGE / part).rglob("*.py"), *PACKAGE.glob(f"{part}.py")]


def parts_imported_by(path: Path) -> set[str]:
    names = [name.split(".") for name in imported_by(path)]
    existing = {p.stem for p in PACKAGE.iterdir()}
    return {n[1] for n in names if n[0] == "nl_detectron" and n[1] in existing}


@pytest.mark.parametrize("part", MAY_IMPORT)
def test_part_imports_only_what_stands_below_it(part):
    files = files_of(part)
    assert files
    for path in files:
        assert parts_imported_by(path) <= MAY_IMPORT[part] | {part}, path


def test_imports_are_seen():
    assert parts_imported_by(PACKAGE / "modeling" / "backbone.py") == {"modeling", "config"}
    assert parts_imported_by(PACKAGE / "modeling" / "build.py") == {"layers"}
    assert "data" in parts_imported_by(PACKAGE / "__init__.py")


def test_layers_know_torch_and_detectron2s_layers_alone():
    for path in files_of("layers"):
        for name in imported_by(path):
            top = name.split(".")[0]
            allowed = top in {"torch", "nl_detectron"} or name.startswith("detectron2.layers.")
            assert allowed or top in sys.stdlib_module_names, (path, name)


def test_package_does_not_know_its_tools():
    outside = {path.stem for path in (ROOT / "tools").glob("*.py")} | {
        "tools",
        "train_net",
        "tests",
    }
    for path in PACKAGE.rglob("*.py"):
        assert not {name.split(".")[0] for name in imported_by(path)} & outside, path


@pytest.mark.parametrize("module", ["nl_detectron", "nl_detectron.engine"])
def test_import_is_cheap(module):
    """What draws, exports, serves a page or reads videos waits until it is wanted."""
    code = f"import sys, {module}; print(*sys.modules)"
    words = [sys.executable, "-W", "ignore", "-c", code]
    loaded = set(subprocess.run(words, capture_output=True, text=True, check=True).stdout.split())
    assert module in loaded
    assert not loaded & {"matplotlib", "gradio", "onnx", "av", "nl_detectron.prediction"}
    assert not loaded & {"nl_detectron.explorer", "nl_detectron.visualizer"}
