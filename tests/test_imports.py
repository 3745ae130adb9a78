"""Imports point inwards in three rings, never in a circle, and importing the package is cheap."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Parts of nl_detectron, from the innermost ring outwards; a part that is not listed is in the
# outer ring. Around the rings: nl_detectron/__init__.py, then tools and benchmarks.
RINGS = [
    {"config", "errors", "layers", "modeling", "version"},
    # engine/pictures.py draws attention and instances for TensorBoard
    {"attention", "convert", "data", "engine", "model_zoo", "visualizer"},
]
OUTER, TOP, OUTSIDE = 2, 3, 4
COMMAND_LINES = "nl_detectron_cli"  # anything may import it, and it nothing ...
PROGRAMS = f"{COMMAND_LINES}.programs"  # ... but these, which are as far outside as tools

# Parts that may import less than their ring allows.
MAY_IMPORT = {
    "errors": set(),
    "layers": set(),
    "config": set(),
    "data": {"errors"},
    "modeling": {"layers", "config", "errors"},
    "attention": {"layers", "modeling", "errors"},
}


def find_modules() -> dict[str, Path]:
    """Files of all modules by dotted name; a package's is its ``__init__.py``."""
    files = [ROOT / "train_net.py"]
    for top in ("nl_detectron", COMMAND_LINES, "tools", "benchmarks"):
        files += (ROOT / top).rglob("*.py")
    paths = {p: p.parent if p.name == "__init__.py" else p.with_suffix("") for p in files}
    return {".".join(path.relative_to(ROOT).parts): file for file, path in paths.items()}


MODULES = find_modules()


def names_imported_by(module: str) -> set[str]:
    """Absolute dotted names of everything that a module imports, wherever in its file."""
    package = MODULES[module].relative_to(ROOT).parent.parts
    found = set()
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else ()
            source = ".".join((*base, *filter(None, [node.module])))
            # a name may be a module itself: from .. import data
            found |= {f"{source}.{alias.name}" for alias in node.names}
    return found


def modules_imported_by(module: str) -> set[str]:
    """Modules of the repository that a module imports.

    With a module of another package comes that package, whose ``__init__.py`` runs first.
    """
    found = set()
    for name in names_imported_by(module):
        if module.startswith("tools.") and f"tools.{name.split('.')[0]}" in MODULES:
            name = f"tools.{name}"  # a script imports from its own folder
        while name and name not in MODULES:
            name = name.rpartition(".")[0]
        if name:
            found.add(name)
        packages = [package for package in MODULES if name.startswith(f"{package}.")]
        found |= {package for package in packages if not module.startswith(f"{package}.")}
    return found - {module}


IMPORTS = {module: modules_imported_by(module) for module in MODULES}


def part(module: str) -> str:
    """Module or package directly in nl_detectron that a module belongs to, or ""."""
    top, _, rest = module.partition(".")
    return rest.split(".")[0] if top == "nl_detectron" else ""


def ring(module: str) -> int:
    if not part(module):
        return TOP if module == "nl_detectron" else OUTSIDE
    return next((i for i, parts in enumerate(RINGS) if part(module) in parts), OUTER)


def is_program(module: str) -> bool:
    return f"{module}.".startswith(f"{PROGRAMS}.")


def is_inward(importer: str, imported: str) -> bool:
    if is_program(imported):
        return is_program(importer) or importer.split(".")[0] in {"tools", "train_net"}
    if imported.split(".")[0] == COMMAND_LINES:
        return True
    if importer.split(".")[0] == COMMAND_LINES:
        return is_program(importer) and ring(imported) != OUTSIDE
    if ring(imported) == OUTSIDE:  # tools and benchmarks import each other nowhere
        return importer.split(".")[0] == imported.split(".")[0]
    return ring(imported) <= ring(importer)


def test_imports_are_found():
    assert IMPORTS["nl_detectron.modeling.heads"] == {
        "nl_detectron.config",
        "nl_detectron.modeling.placement",
    }
    assert {"nl_detectron.modeling", "nl_detectron.relay"} <= IMPORTS["nl_detectron"]
    assert {"nl_detectron.data", "nl_detectron.data.coco"} <= IMPORTS[f"{PROGRAMS}.check"]
    assert f"{PROGRAMS}.check" in IMPORTS["tools.check_dataset"]


@pytest.mark.parametrize(
    ("importer", "imported", "inward"),
    [
        ("nl_detectron.layers.pairwise", "nl_detectron.modeling", True),
        ("nl_detectron.modeling.build", "nl_detectron.engine", False),
        ("nl_detectron.engine.trainer", "nl_detectron.a_new_package", False),
        ("nl_detectron.a_new_package.page", "nl_detectron.engine", True),
        ("nl_detectron.a_new_package.page", "nl_detectron", False),
        ("nl_detectron", "nl_detectron.a_new_package", True),
        ("nl_detectron.convert", "tools.convert_weights", False),
        ("tools.relay_demo", "nl_detectron", True),
        ("benchmarks.evidence.real", "tools.subset_coco", False),
        ("tools.relay_demo", "benchmarks.run", False),
        ("train_net", "nl_detectron_cli.programs.train", True),
        ("nl_detectron_cli.programs.train", "nl_detectron.engine", True),
        ("nl_detectron_cli.programs.train", "tools.relay_demo", False),
        ("nl_detectron_cli.main", "nl_detectron_cli.programs", False),
        ("nl_detectron.engine", "nl_detectron_cli.programs.train", False),
        ("nl_detectron.engine.arguments", "nl_detectron_cli.options", True),
        ("nl_detectron_cli.options", "nl_detectron.data", False),
    ],
)
def test_inward_is_towards_the_core(importer, imported, inward):
    assert is_inward(importer, imported) == inward


def test_modules_import_inwards():
    assert [(a, b) for a in MODULES for b in IMPORTS[a] if not is_inward(a, b)] == []


def test_no_modules_import_each_other_in_a_circle():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_parts_import_what_they_may(name):
    modules = [module for module in MODULES if part(module) == name]
    assert modules
    for module in modules:
        imported = (m for m in IMPORTS[module] if m.split(".")[0] != COMMAND_LINES)
        assert {part(m) for m in imported} <= MAY_IMPORT[name] | {name}, module


def test_layers_import_torch_and_detectron2s_layers_alone():
    for module in (module for module in MODULES if part(module) == "layers"):
        for name in names_imported_by(module):
            top = name.split(".")[0]
            allowed = top in {"torch", "nl_detectron"} or name.startswith("detectron2.layers.")
            assert allowed or top in sys.stdlib_module_names, (module, name)


@pytest.mark.slow
def test_importing_the_package_imports_no_optional_or_slow_package():
    code = "import sys, nl_detectron.engine; print(*sys.modules)"
    words = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(done.stdout.split())
    assert {"nl_detectron", "nl_detectron.engine"} <= loaded
    assert not loaded & {"av", "gradio", "matplotlib", "onnx", "tensorboard"}
    assert not loaded & {"nl_detectron.prediction", "nl_detectron.explorer"}
