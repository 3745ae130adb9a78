"""The plan of a table: rows, seeds and commands, scaled to the GPUs; wrong command lines."""

import re
import shlex
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.engine import default_argument_parser
from fast_part import first_cases

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo.index import shipped
from nl_detectron.reproduce import TABLES
from tools.reproduce import main

ROOT = Path(__file__).parents[2]
COCO = [(name, schedule) for name, table in TABLES.items() for schedule in table["schedules"]]
VIDEO = {  # rows of the tables of video models
    **{"table2a_kinetics": 5, "table2b_kinetics": 5, "table2c_kinetics": 8, "table2d": 8},
    **{"table2e": 4, "table2f": 6, "table2g": 6, "table3": 4, "table4": 2},
}
ROWS = {"table5": 6, "table6": 3, "table2a": 5, "table2b": 5, "table2c": 8}


def planned(capsys, *words):
    """The trainings of a dry run, in their order: number of GPUs and config of each."""
    assert main([*map(str, words), "--dry-run"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "--config-file" in line]
    for line in lines:
        program, script, *rest = shlex.split(line)
        assert Path(program) == Path(sys.executable) and Path(script).name == "train_net.py"
        args = default_argument_parser().parse_args(rest)
        yield SimpleNamespace(gpus=args.num_gpus, cfg=load_config(args.config_file, args.opts))


@pytest.mark.slow
@first_cases(1, "table, schedule", COCO)
def test_a_dry_run_plans_every_row_and_seed(table, schedule, capsys, tmp_path):
    words = ("--num-gpus", 8, "--schedule", schedule, "--seeds", 4, 5, "--output", tmp_path / "out")
    runs = list(planned(capsys, table, *words))
    assert len(runs) == 2 * ROWS[table]
    assert [run.cfg.SEED for run in runs] == [4] * ROWS[table] + [5] * ROWS[table]
    assert len({run.cfg.OUTPUT_DIR for run in runs}) == len(runs)
    assert {Path(run.cfg.OUTPUT_DIR).name for run in runs} == {"seed4", "seed5"}
    iterations = {"1x": 90000, "3x": 270000}[schedule]
    for run in runs:
        assert (run.gpus, run.cfg.SOLVER.IMS_PER_BATCH, run.cfg.SOLVER.BASE_LR) == (8, 16, 0.02)
        assert run.cfg.SOLVER.MAX_ITER == iterations
    assert len({str(run.cfg.MODEL) for run in runs}) == ROWS[table]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", [name for name in TABLES if name not in VIDEO])
def test_a_twin_is_the_same_config_without_blocks(table):
    rows = {row["name"]: row for row in TABLES[table]["rows"]}
    twins = {row["config"]: rows[row["twin"]]["config"] for row in rows.values() if "twin" in row}
    assert twins
    for config, twin in twins.items():
        plain = re.sub("_nl.*", "", config)
        assert twin == plain.replace("Ablations", "COCO-InstanceSegmentation")


@pytest.mark.slow
@first_cases(1, "table", VIDEO)
def test_a_dry_run_plans_the_video_models(table, capsys, tmp_path):
    words = ("--num-gpus", 8, "--seeds", 1, "--output", tmp_path)
    runs = list(planned(capsys, table, *words))
    assert len(runs) == len({run.cfg.OUTPUT_DIR for run in runs}) == VIDEO[table]
    long = {"table2g": 400000, "table3": 400000, "table4": 200000}
    for run in runs:
        solver = run.cfg.SOLVER
        assert solver.MAX_ITER == long.get(table, 400000)
        assert solver.IMS_PER_BATCH == {"table4": 8}.get(table, 16 if table in long else 64)
        start = run.cfg.MODEL.WEIGHTS
        if table in long:  # what another table trains into the same folder, of the same seed
            assert Path(start).relative_to(tmp_path).parts[1:] == ("seed1", "model_final.pth")
        else:
            assert start.startswith("detectron2://ImageNetPretrained/torchvision/R-")


@pytest.mark.slow
def test_long_clips_start_from_what_the_table_of_short_ones_trains(capsys, tmp_path):
    words = ("--num-gpus", 8, "--seeds", 1, "--output", tmp_path)
    made = set()
    for table in ("table2f", "table2g", "table4"):
        runs = list(planned(capsys, table, *words))
        if made:
            assert {str(Path(run.cfg.MODEL.WEIGHTS).parent) for run in runs} <= made
        made |= {run.cfg.OUTPUT_DIR for run in runs}


def test_rows_of_video_models_are_those_of_the_index():
    for table in VIDEO:
        rows = TABLES[table]["rows"]
        twins = {row["name"]: row["config"] for row in rows}
        for row in rows:
            twin = shipped()[row["config"]].get("twin")
            if twin:
                assert twins[row["twin"]] == twin
            assert shipped()[row["config"]]["paper"]


@pytest.mark.slow
def test_fewer_gpus_take_a_smaller_batch_at_a_lower_rate_for_longer(capsys):
    run = next(planned(capsys, "table5", "--num-gpus", 2, "--seeds", 1))
    solver = run.cfg.SOLVER
    assert run.gpus == 2
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (4, 0.005, 360000)
    assert (solver.STEPS, solver.WARMUP_ITERS) == ((240000, 320000), 4000)
    assert solver.REFERENCE_WORLD_SIZE == 0  # or it would be scaled twice


def test_the_relay_configs_are_trained_as_they_are(capsys):
    run = next(planned(capsys, "relay", "--num-gpus", 0, "--seeds", 1))
    assert (run.gpus, run.cfg.MODEL.DEVICE) == (0, "cpu")
    config = load_config(str(ROOT / "configs/Demo/relay_mask_rcnn.yaml"))
    assert run.cfg.SOLVER == config.SOLVER


@pytest.mark.slow
def test_tables_share_the_runs_of_their_common_models(capsys):
    folders = [
        {run.cfg.OUTPUT_DIR for run in planned(capsys, table, "--num-gpus", 8, "--seeds", 1)}
        for table in ("table5", "table2a", "table2b", "table2c")
    ]
    assert [len(f & folders[0]) for f in folders[1:]] == [2, 2, 4]


def test_some_rows_come_with_their_twins(capsys):
    words = ("--num-gpus", 8, "--seeds", 1, "--only", "R_101_FPN_nl_5", "R_50_FPN_nl_10")
    names = [Path(run.cfg.OUTPUT_DIR).parent.name for run in planned(capsys, "table2c", *words)]
    assert [re.sub("mask_rcnn_|_1x", "", name) for name in names] == [
        *("R_50_FPN", "R_50_FPN_nl_10blocks", "R_101_FPN", "R_101_FPN_nl_5blocks"),
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("table7 --num-gpus 8", "table7"),
        ("table5", "--num-gpus"),
        ("table2a --num-gpus 8 --schedule 3x", "table2a has 1x"),
        ("table5 --num-gpus 8 --schedule 2x", "table5 has 1x, 3x"),
        ("relay --num-gpus 0 --schedule 1x", "leave --schedule out"),
        ("table5 --num-gpus 8 --seeds 1 1", "each seed once"),
        ("table5 --num-gpus 8 --seeds -1", "0 or more"),
        ("table5 --num-gpus 8 --opts OUTPUT_DIR here", "give --output instead"),
    ],
)
def test_a_wrong_command_line_is_refused(words, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(words.split())
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("table5 --num-gpus 8 --only R_18", "none of this table's configs: mask_rcnn_R_50_FPN,"),
        ("table5 --num-gpus 8 --opts SOLVER.IMS_PER_BATCH 4", "expected a multiple of 8, got 4"),
        ("table5 --num-gpus 8 --opts SOLVER.BASE_LRR 1", "did you mean SOLVER.BASE_LR"),
        ("table5 --num-gpus 1", "--num-gpus 1: torch sees 0"),
        ("relay --num-gpus 0 --opts DATASETS.TEST ('nope',)", "data set 'nope' is not registered"),
    ],
)
def test_what_cannot_be_trained_is_reported_before_any_work(words, said, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(said)):
        main(words.split())
    assert not list(tmp_path.iterdir())
