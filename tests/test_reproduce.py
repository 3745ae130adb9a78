"""The paper's tables: the plan, the published figures, whole runs on a little relay data set."""

import io
import json
import re
import shlex
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.relay import SPLITS, Relay, register_split

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

import paper_tables  # noqa: E402
import reproduce  # noqa: E402
import training_run  # noqa: E402

TABLES = paper_tables.TABLES
COCO = [(name, schedule) for name, table in TABLES.items() for schedule in table["schedules"]]
ROWS = {"table5": 6, "table6": 3, "table2a": 5, "table2b": 5, "table2c": 8}


def planned(capsys, *words):
    """The trainings of a dry run, in their order: number of GPUs and config of each."""
    assert reproduce.main([*map(str, words), "--dry-run"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "--config-file" in line]
    for line in lines:
        program, script, *rest = shlex.split(line)
        assert Path(program) == Path(sys.executable) and Path(script).name == "train_net.py"
        args = default_argument_parser().parse_args(rest)
        yield SimpleNamespace(gpus=args.num_gpus, cfg=load_config(args.config_file, args.opts))


@pytest.mark.parametrize(("table", "schedule"), COCO)
def test_a_dry_run_plans_every_row_and_seed(table, schedule, capsys, tmp_path):
    words = ("--num-gpus", 8, "--schedule", schedule, "--seeds", 4, 5, "--output", tmp_path / "out")
    runs = list(planned(capsys, table, *words))
    assert len(runs) == 2 * ROWS[table]
    assert [run.cfg.SEED for run in runs] == [4] * ROWS[table] + [5] * ROWS[table]
    assert len({run.cfg.OUTPUT_DIR for run in runs}) == len(runs)
    iterations = {"1x": 90000, "3x": 270000}[schedule]
    for run in runs:
        assert (run.gpus, run.cfg.SOLVER.IMS_PER_BATCH, run.cfg.SOLVER.BASE_LR) == (8, 16, 0.02)
        assert run.cfg.SOLVER.MAX_ITER == iterations
    assert len({str(run.cfg.MODEL) for run in runs}) == ROWS[table]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("table", TABLES)
def test_a_twin_is_the_same_config_without_blocks(table):
    rows = {row["name"]: row for row in TABLES[table]["rows"]}
    twins = {row["config"]: rows[row["twin"]]["config"] for row in rows.values() if "twin" in row}
    assert twins
    for config, twin in twins.items():
        plain = re.sub("_nl.*", "", config)
        assert twin == plain.replace("Ablations", "COCO-InstanceSegmentation")


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
        reproduce.main(words.split())
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


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
def test_what_cannot_be_trained_is_told_before_any_work(words, said, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=re.escape(said)):
        reproduce.main(words.split())
    assert not list(tmp_path.iterdir())


BOX = {"bbox/AP": 40.0, "bbox/AP50": 60.0, "bbox/AP75": 44.0}
MADE_UP = {
    "R50": {1: {**BOX, "bbox/AP": 38.0}, 2: {**BOX, "bbox/AP": 38.5}, 3: {**BOX, "bbox/AP": 38.1}},
    "R50 + 1 block": {1: BOX, 2: {**BOX, "bbox/AP": 39.0}, 4: {**BOX, "bbox/AP": None}},
}


def cells_of(text: str, section: str) -> dict[str, list[str]]:
    """The cells of a section's table, by the first of each row."""
    lines = text.split(f"## {section}")[1].split("##")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    return {name: cells for name, *cells in rows}


def test_a_table_sets_measured_figures_and_gains_beside_the_published_ones():
    rows = paper_tables.fill(TABLES["table5"], "1x", MADE_UP)
    text = paper_tables.markdown(TABLES["table5"], rows, "a day on the moon")
    assert "a day on the moon" in text
    box = cells_of(text, "Box AP")
    paper, twin_paper = "39.0 / 61.1 / 41.9", "38.0 / 59.6 / 41.0"
    assert box["R50"][:4] == [twin_paper, "–", "38.6", "38.2 (38.0 to 38.5)"]
    assert box["R50"][-2:] == ["–", "3"]
    # 40.0 - 38.0 and 39.0 - 38.5; seeds 3 and 4 have no partner, and seed 4 found nothing
    assert box["R50 + 1 block"][:4] == [paper, "+1.0", "–", "26.3 (0.0 to 40.0)"]
    assert box["R50 + 1 block"][-2:] == ["+1.2 (+0.5 to +2.0)", "3"]
    assert box["X152"] == ["44.1 / 66.4 / 48.4", *["–"] * 6, "0"]
    assert cells_of(text, "Mask AP")["R50"][0] == "34.6 / 56.4 / 36.5"


@pytest.mark.parametrize(
    ("table", "row", "paper"),
    [
        ("table2a", "baseline", ["71.8", "–", "35.2"]),
        ("table2a", "embedded Gaussian", ["72.7", "+0.9", "–"]),
        ("table2b", "res5", ["72.3", "+0.5", "–"]),
        ("table2c", "R101 + 5 blocks", ["75.1", "+2.0", "–"]),
    ],
)
def test_an_ablations_table_says_that_the_papers_is_on_kinetics(table, row, paper):
    rows = paper_tables.fill(TABLES[table], "1x", {})
    text = paper_tables.markdown(TABLES[table], rows, "")
    assert "top-1 accuracy of video classification on Kinetics" in text
    masks = cells_of(text, "Mask AP")
    assert "paper: Kinetics top-1, %" in masks[""] and masks[row][:3] == paper


LITTLE = Relay(train=4, val=2, height=64, width=128, signal=9)
# train_net.py itself, in a process that also knows a little data set
WITH_LITTLE_RELAY = f"""
import runpy, sys
from nl_detectron.relay import SPLITS, Relay, register_split
for split in SPLITS:
    register_split(f"little_{{split}}", {LITTLE}, split)
sys.path[0] = {str(ROOT)!r}
runpy.run_path({str(ROOT / "train_net.py")!r}, run_name="__main__")
"""
OVERRIDES = [
    *("--opts", "DATASETS.TRAIN", "('little_train',)", "DATASETS.TEST", "('little_val',)"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "SOLVER.IMS_PER_BATCH", "2"),
    # an untrained model is sure of nothing
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
    *("SOLVER.CHECKPOINT_PERIOD", "2", "SOLVER.MAX_ITER", "4"),
]


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """Runs the relay table on little data: ``relay(output, *words)`` gives the exit code."""
    folder = tmp_path_factory.mktemp("reproduce")
    script = folder / "train_net.py"
    script.write_text(WITH_LITTLE_RELAY)

    def run(output, *words, overrides=()) -> int:
        words = ("relay", "--num-gpus", 0, "--seeds", 1, "--output", output, *words)
        return reproduce.main([*map(str, words), *OVERRIDES, *overrides])

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NL_DETECTRON_CACHE", str(folder / "cache"))
        patch.setattr(training_run, "TRAIN", script)
        for split in SPLITS:
            register_split(f"little_{split}", LITTLE, split)
        yield run
        for split in SPLITS:
            DatasetCatalog.remove(f"little_{split}")
            MetadataCatalog.remove(f"little_{split}")


@pytest.fixture(scope="module")
def reproduced(relay, tmp_path_factory):
    """The ``output`` of a whole run, and what it ``printed``."""
    output, said = tmp_path_factory.mktemp("reproduced"), io.StringIO()
    with redirect_stdout(said):
        assert relay(output) == 0
    return SimpleNamespace(output=output, printed=said.getvalue())


@pytest.mark.slow
def test_a_table_is_trained_evaluated_and_written(reproduced):
    text = (reproduced.output / "relay.md").read_text()
    assert reproduced.printed.endswith(f"{text}\n")
    assert "4 iterations of 2 images" in text and "SOLVER.MAX_ITER 4`" in text
    written = json.loads((reproduced.output / "relay.json").read_text())
    plain, block = written["rows"]
    for row, config in ((plain, "relay_mask_rcnn"), (block, "relay_mask_rcnn_nl")):
        file = reproduced.output / config / "seed1" / "summary.json"
        results = json.loads(file.read_text())["results"]
        assert row["runs"]["1"]["results"] == results
        shown = cells_of(text, "Mask AP")[row["name"]]
        assert shown[3] == f"{results['segm/AP']:.1f}" and shown[-1] == "1"


@pytest.mark.slow
def test_time_and_memory_are_measured_before_the_training(reproduced):
    estimate, training = reproduced.printed.split("Training takes about")
    for config in ("relay_mask_rcnn", "relay_mask_rcnn_nl"):
        summary = json.loads((reproduced.output / config / "measured/summary.json").read_text())
        row = next(line.split() for line in estimate.splitlines() if line.startswith(f"{config} "))
        seconds, memory = summary["seconds_per_iteration"], summary["peak_memory_mib"]
        assert row[1:5] == [f"{seconds:.3f}", f"{memory / 1024:.1f}", "1", "4"]
        assert f"{config}, seed 1: 0 of 4 iterations done" in training
        assert not list((reproduced.output / config / "measured").glob("*.pth"))


@pytest.mark.slow
def test_a_finished_table_is_not_trained_again(relay, reproduced, capsys, monkeypatch):
    monkeypatch.setattr(training_run.subprocess, "run", None)
    assert relay(reproduced.output) == 0
    assert "## Mask AP" in capsys.readouterr().out
    assert relay(reproduced.output, "--dry-run") == 0
    assert capsys.readouterr().out.count("seed 1: finished") == 2


@pytest.mark.slow
def test_a_run_of_other_settings_is_kept(relay, reproduced):
    said = "SOLVER.BASE_LR 0.0012 there and 0.1 here"
    with pytest.raises(UsageError, match=f"holds a run with other settings .{said}"):
        relay(reproduced.output, overrides=["SOLVER.BASE_LR", "0.1"])


@pytest.mark.slow
def test_a_failed_run_is_told_while_others_go_on_from_their_last_checkpoint(
    relay, reproduced, tmp_path, capsys, monkeypatch
):
    shutil.copytree(reproduced.output, tmp_path, dirs_exist_ok=True)
    damaged, stopped = (tmp_path / f"relay_mask_rcnn{end}" / "seed1" for end in ("", "_nl"))
    for folder in (damaged, stopped):
        for name in ("summary.json", "model_final.pth", "model_best.pth", "console.txt"):
            (folder / name).unlink()
        (folder / "model_0000003.pth").unlink()
        (folder / "last_checkpoint").write_text("model_0000001.pth")
    (damaged / "model_0000001.pth").write_text("nothing of the kind")
    monkeypatch.setattr(training_run.Run, "measure", lambda run: (60.0, 1024.0))

    assert relay(tmp_path) == 1
    said = capsys.readouterr()
    assert "0:04:00 in all" in said.out  # 2 of 4 iterations of 2 runs, a minute each
    assert said.out.count("seed 1: 2 of 4 iterations done") == 2
    assert (
        "relay_mask_rcnn, seed 1 failed (exit code 1): train_net.py: error: checkpoint" in said.err
    )
    assert f"its log: {damaged / 'console.txt'}" in said.err
    assert "Starting training from iteration 2" in (stopped / "console.txt").read_text()
    box = cells_of(said.out, "Box AP")
    assert box["baseline"][-1] == "0"
    assert box["1 block"][-2:] == ["–", "1"]  # it has nothing to be compared with


@pytest.mark.slow
def test_a_config_that_does_not_train_is_told_before_the_long_work(relay, tmp_path):
    with pytest.raises(training_run.RunFailed, match="'shears' is not a valid") as told:
        relay(tmp_path, overrides=["SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "shears"])
    console = tmp_path / "relay_mask_rcnn/measured/console.txt"
    assert f"its log: {console}" in str(told.value) and console.exists()
    assert not (tmp_path / "relay_mask_rcnn/seed1").exists()
