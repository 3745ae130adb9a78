"""Command lines of all programs: quick help, one style of overrides, no abbreviations, and one line
without the environment."""

import os
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.engine import default_argument_parser
from fast_part import first_cases

from nl_detectron.convert import sources
from nl_detectron.export import FORMATS
from nl_detectron.prediction import drawing
from nl_detectron.reproduce import TABLES
from nl_detectron_cli import demo
from nl_detectron_cli.names import SCRIPTS
from nl_detectron_cli.options import make_training_parser
from tools import relay_demo

ROOT = Path(__file__).parents[1]
# programs with arguments that are complete, and their parsers where there are overrides
PROGRAMS = {
    "train_net.py": "--config-file a.yaml",
    "tools/analyze_model.py": "--config-file a.yaml",
    "tools/check_dataset.py": "a.json .",
    "tools/convert_weights.py": "--source timm --input a --output b.pth",
    "tools/demo.py": "--config-file a.yaml --input a.png --output out",
    "tools/explore.py": "--config-file a.yaml",
    "tools/export_model.py": "--config-file a.yaml --format onnx --output out",
    "tools/plot_curves.py": "run",
    "tools/publish_checkpoint.py": "run --name a --output out",
    "tools/relay_demo.py": "--config-file a.yaml",
    "tools/reproduce.py": "relay --num-gpus 0",
    "tools/subset_coco.py": "--coco . --output out",
}


def load_program(name: str) -> ModuleType:
    return import_module(f"nl_detectron_cli.programs.{name}")


WITH_OVERRIDES = (
    {
        "train_net.py": lambda words: make_training_parser().parse_args(words),
        "tools/demo.py": lambda words: demo.make_demo_parser("doc").parse_args(words),
    }
    | {
        SCRIPTS[name]: lambda words, name=name: load_program(name).parse_arguments(words)
        for name in ("analyze", "explore", "export", "reproduce")
    }
    | {"tools/relay_demo.py": lambda words: relay_demo.parse_arguments(words)}
)


def run(*words, **options) -> subprocess.CompletedProcess:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHONPATH", "COV"))}
    command = [sys.executable, *words]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=60, **options
    )


@first_cases(1, "program", PROGRAMS)
def test_help_takes_a_moment_and_prints_nothing_else(program, tmp_path):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run(ROOT / program, "--help", cwd=tmp_path)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0 and done.stderr == ""
    assert done.stdout.startswith(f"usage: {Path(program).name} ")
    seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    assert seconds < 1.5  # importing PyTorch takes longer


@first_cases(1, "program", PROGRAMS)
def test_without_the_environment_there_is_one_line(program, tmp_path):
    done = run("-S", ROOT / program, *PROGRAMS[program].split(), cwd=tmp_path)  # no site-packages
    assert done.returncode in (1, 2) and done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{Path(program).name}: error: the package ")
    assert " is not installed for " in line
    assert "source " in line or "make setup" in line


@first_cases(1, "program", PROGRAMS)
def test_abbreviations_are_refused(program, tmp_path):
    option = {"check_dataset": "--js", "plot_curves": "--out", "train_net": "--config"}
    word = option.get(Path(program).stem, "--outp" if "--output" in PROGRAMS[program] else "--conf")
    done = run(ROOT / program, *PROGRAMS[program].split(), word, "x", cwd=tmp_path)
    assert done.returncode == 2
    assert f"error: unrecognized arguments: {word}; did you mean --" in done.stderr
    assert done.stderr.count("\n") == 1


OVERRIDES = ["MODEL.WEIGHTS", "a.pth", "SOLVER.BASE_LR", "-1", "TEST.EVAL_PERIOD", "3"]


@pytest.mark.parametrize("program", WITH_OVERRIDES)
def test_overrides_are_taken_wherever_they_are(program):
    parse = WITH_OVERRIDES[program]
    words = PROGRAMS[program].split()
    plain = vars(parse(words))
    assert plain.pop("opts") == []
    for given in (
        [*words, *OVERRIDES],
        [*words, "--opts", *OVERRIDES],
        [*OVERRIDES, *words],
        [*words, *OVERRIDES[:2], "--opts", *OVERRIDES[2:]],
        ["--opts", *OVERRIDES, *words] if program != "tools/reproduce.py" else [*words, *OVERRIDES],
    ):
        found = vars(parse(given))
        assert found.pop("opts") == OVERRIDES
        assert found == plain
    lazy = ["model.backbone.after=[res3.1]", "+train.x=1"]
    assert parse([*words, *lazy]).opts == lazy
    assert parse([*words, "SOLVERR.BASE_LR", "1"]).opts == ["SOLVERR.BASE_LR", "1"]


def test_values_of_options_and_files_are_no_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "TEST.PNG").write_text("")
    words = ["--config-file", "SEED", "--output", "OUTPUT_DIR", "--input", "TEST.PNG"]
    args = demo.make_demo_parser("doc").parse_args([*words, *OVERRIDES])
    assert (args.config_file, str(args.output), args.input) == ("SEED", "OUTPUT_DIR", ["TEST.PNG"])
    assert args.opts == OVERRIDES


def test_the_explorers_second_model_has_overrides_of_its_own():
    words = "--config-file a --opts SEED 1 --compare-config b --compare-opts SEED 2 --images c"
    args = WITH_OVERRIDES["tools/explore.py"](words.split())
    assert (args.opts, args.compare_opts, args.images) == (["SEED", "1"], ["SEED", "2"], ["c"])


def test_train_net_has_all_options_of_detectron2():
    ours, theirs = make_training_parser().parse_args([]), default_argument_parser().parse_args([])
    assert vars(theirs).items() <= vars(ours).items()


def test_choices_are_those_of_the_package():
    convert, export, reproduce = (load_program(name) for name in ("convert", "export", "reproduce"))
    assert convert.SOURCES == tuple(sources.SOURCES)
    assert export.FORMATS == tuple(FORMATS)
    assert {k: tuple(t["schedules"]) for k, t in TABLES.items()} == reproduce.SCHEDULES
    assert demo.MAX_POINTS == drawing.MAX_POINTS


def test_a_command_line_imports_nothing_slow():
    code = "import sys, nl_detectron_cli.demo, nl_detectron_cli.program; print(*sys.modules)"
    loaded = set(run("-c", code, cwd=ROOT).stdout.split())
    assert "nl_detectron_cli.options" in loaded
    assert not loaded & {"torch", "numpy", "detectron2", "nl_detectron", "yaml", "tqdm"}


def test_help_of_the_model_zoos_page_writes_nothing(monkeypatch, capsys):
    from nl_detectron.model_zoo import page

    before = page.PAGE.stat().st_mtime_ns
    with pytest.raises(SystemExit) as stop:
        page.main(["--help"])
    assert stop.value.code == 0 and "MODEL_ZOO.md" in capsys.readouterr().out
    assert page.PAGE.stat().st_mtime_ns == before
