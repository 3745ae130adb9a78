"""The project's own wheel is enough: its content, page and command, without a clone."""

import os
import re
import resource
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Sequence
from email import message_from_bytes
from pathlib import Path
from shutil import copy, copytree, ignore_patterns

import pytest
from coco_files import dataset_argument, valid_content, write

from docs_site.page_links import link_to_repository
from nl_detectron_cli.main import PROGRAMS

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("nl_detectron", "nl_detectron_cli")
URL = "https://example.org/nl_detectron"
AS_COMMAND = "sys.argv[0] = 'nl-detectron'; from nl_detectron_cli.main import main; main()"
THIN = [
    *("MODEL.WEIGHTS", "", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TRAIN", "(64,)"),
    *("INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "1"),
    *("SOLVER.STEPS", "()", "DATALOADER.NUM_WORKERS", "0", "OUTPUT_DIR", "run"),
]
# messages with commands in them, in a process that is no program's
HINTS = """
from pathlib import Path
from nl_detectron import model_zoo
from nl_detectron.engine.stopping import resume_command
from nl_detectron.errors import UsageError
from nl_detectron.reproduce.training_run import TrainingRun
name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml"
print(model_zoo.get_config_file(name))
try:
    model_zoo.get_checkpoint_url(name)
except UsageError as error:
    print(error)
print(resume_command("out"))
print(TrainingRun("Demo/relay_mask_rcnn.yaml", (), 1, Path("run"), 0).command_line)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's own, built from a copy of its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for part in (*PACKAGES, "configs", "docs_site"):
        copytree(ROOT / part, source / part, ignore=ignore_patterns("__pycache__"))
    for file in (*ROOT.glob("*.txt"), *ROOT.glob("*.md"), ROOT / "LICENSE"):
        copy(file, source)
    copy(ROOT / "pyproject.toml", source)
    copy(ROOT / "setup.py", source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    built = subprocess.run(
        [*command, "--wheel-dir", folder, source],
        capture_output=True,
        text=True,
        env={**os.environ, "NL_DETECTRON_URL": URL},
    )
    assert built.returncode == 0, built.stderr
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_carries_the_package_and_its_configs(wheel):
    carried = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    configs = {path for path in (ROOT / "configs").rglob("*") if path.suffix in (".yaml", ".py")}
    assert configs
    expected = {f"nl_detectron/{path.relative_to(ROOT)}" for path in configs}
    files = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    expected |= {str(path.relative_to(ROOT)) for path in files}
    data = ("model_zoo/index.yaml", "reproduce/paper_tables.yaml", "py.typed")
    expected |= {f"nl_detectron/{name}" for name in data}
    expected.add("nl_detectron_cli/requirements-detectron2.txt")
    assert carried == expected


@pytest.mark.slow
def test_the_page_for_an_index_links_to_the_repository(wheel):
    (name,) = (n for n in zipfile.ZipFile(wheel).namelist() if n.endswith("/METADATA"))
    metadata = message_from_bytes(zipfile.ZipFile(wheel).read(name))
    page = metadata.get_payload()
    assert page.startswith("# nl_detectron")
    assert all("://" in target for target in re.findall(r"\]\(([^)]+)\)", page))
    assert f"]({URL}/blob/main/docs/installation.md)" in page
    assert f"({URL}/raw/main/docs/relay_demo.png)" in page
    addresses = dict(line.split(", ") for line in metadata.get_all("Project-URL"))
    assert addresses["Repository"] == URL and addresses["Paper"].startswith("https://arxiv.org/")
    assert {"explore", "export", "dev"} <= set(metadata.get_all("Provides-Extra"))
    required = " ".join(metadata.get_all("Requires-Dist"))
    assert 'onnx<2,>=1.23; extra == "export"' in required and "gradio" in required


def test_without_an_address_links_are_text():
    page = "[a](docs/a.md) ![p](p.png)[b](https://b) [`c`](#c)\n```\n[d](d)\n```\n[![e](e)](e)"
    expected = "a [b](https://b) [`c`](#c)\n```\n[d](d)\n```\n"
    assert link_to_repository(page, "") == expected
    assert link_to_repository("[a](b.md#c)", "https://x") == "[a](https://x/blob/main/b.md#c)"


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory) -> Path:
    """A new environment with the wheel in it, and no clone; its folder of programs."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    pip = [sys.executable, "-m", "pip", "--python", folder / "bin/python", "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", wheel], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    # the other packages of this one: .pth files in its folders, as that of a clone, are not read
    (site / "packages.pth").write_text(
        "\n".join({*map(sysconfig.get_path, ("purelib", "platlib"))})
    )
    return folder / "bin"


@pytest.fixture
def command(environment, tmp_path):
    """Runs ``nl-detectron`` in an empty folder."""

    def run(*words, python: Sequence = ()) -> subprocess.CompletedProcess:
        started = (
            [environment / "nl-detectron"] if not python else [environment / "python", *python]
        )
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_"))}
        return subprocess.run(
            [*map(str, (*started, *words))],
            cwd=tmp_path,
            env={**kept, "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.slow
def test_every_program_has_quick_help_and_calls_itself_by_the_command(command):
    assert command("--version").stdout.startswith("nl-detectron ")
    listed = command().stdout
    for program in PROGRAMS:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = command(program, "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0 and done.stderr == ""
        assert done.stdout.startswith(f"usage: nl-detectron {program} ")
        assert f"\n  {program} " in listed
        assert "tools/" not in done.stdout and ".py" not in done.stdout
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        assert seconds < 1.5  # importing PyTorch takes longer


@pytest.mark.slow
def test_mistakes_are_one_line_that_names_the_command(command, environment):
    (site,) = environment.parent.glob("lib/python*/site-packages")
    for words, python, expected in (
        (["trian"], [], "there is no program 'trian'; did you mean train?"),
        (["train", "--confi", "x"], [], "unrecognized arguments: --confi; did you mean --config-f"),
        # without other packages
        (
            ["eval", "--config-file", "x"],
            ["-S", "-c", f"import sys; sys.path.append({str(site)!r}); {AS_COMMAND}"],
            "the package detectron2 is not installed for ",
        ),
    ):
        done = command(*words, python=python)
        assert done.returncode in (1, 2) and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith("nl-detectron") and f"error: {expected}" in line
    assert line.endswith("needs no compiler: nl-detectron setup")


@pytest.mark.slow
def test_a_wheel_trains_with_its_configs(command, tmp_path):
    data = [word for name in ("birds_train", "birds_val") for word in ("--dataset", name)]
    data[1::2] = (dataset_argument(write(tmp_path, valid_content(), name)) for name in data[1::2])
    config = ["--config-file", "Demo/relay_mask_rcnn_nl.yaml"]
    done = command("train", *config, *data, *THIN)
    assert done.returncode == 0, done.stderr
    first, *_ = done.stdout.splitlines()
    assert first.startswith("Training for 1 iteration")
    assert (tmp_path / "run/summary.json").is_file()

    mistyped = command("train", "--config-file", "Demo/relay_mask_rcn_nl.yaml")
    assert mistyped.stderr == (
        "nl-detectron train: error: config file 'Demo/relay_mask_rcn_nl.yaml' does not exist; did "
        "you mean Demo/relay_mask_rcnn_nl.yaml or Demo/relay_mask_rcnn.yaml or "
        "Demo/relay_keypoint_rcnn_nl.yaml?\n"
    )


@pytest.mark.slow
def test_hints_of_a_wheel_name_the_command(command):
    name = "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x"
    done = command(python=["-W", "ignore", "-c", HINTS])
    assert done.returncode == 0, done.stderr
    file, untrained, resume, plan = done.stdout.splitlines()
    assert file.endswith(f"/site-packages/nl_detectron/configs/{name}.yaml")
    assert f"Train it: nl-detectron train --config-file {name}.yaml --num-gpus 8" in untrained
    assert resume == "nl-detectron train --resume --config-file out/config.yaml"
    assert "-m nl_detectron_cli train --config-file Demo/relay_mask_rcnn.yaml " in plan
