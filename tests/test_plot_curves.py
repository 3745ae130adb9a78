"""Curves of runs: what counts of a metrics.json, which runs are of a kind, and mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from detectron2.utils.events import EventStorage, JSONWriter
from PIL import Image

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

import plot_curves  # noqa: E402
from plot_curves import PlotError, curve, draw, grouped, read, series  # noqa: E402


def train(folder, end, start=0, loss=1.0, period=50, ap=("segm/AP", "bbox/AP")) -> Path:
    """Leaves the metrics.json of a run, by Detectron2's own writer: losses that fall from ``loss``
    by 0.001 an iteration, and AP of ten times ``loss``."""
    folder.mkdir(parents=True, exist_ok=True)
    with EventStorage(start) as storage:
        writer = JSONWriter(str(folder / "metrics.json"), window_size=1)
        for iteration in range(start, end):
            storage.iter = iteration
            for key in ("total_loss", "loss_mask"):
                storage.put_scalar(key, loss - 0.001 * iteration)
            if period and (iteration + 1) % period == 0:
                storage.put_scalars(**dict.fromkeys(ap, 10 * loss), smoothing_hint=False)
            if (iteration + 1) % 20 == 0 or iteration == end - 1:
                writer.write()
        writer.close()
    return folder


def write(file, *records) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records))
    return file


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- what counts of a metrics.json -----------------------------------------------------------


def test_a_runs_values_are_read_in_order(tmp_path):
    records = read(train(tmp_path, 100) / "metrics.json")
    assert list(series(records, "total_loss")) == [19, 39, 59, 79, 99]
    assert series(records, "total_loss")[59] == pytest.approx(0.941)
    assert series(records, "segm/AP") == {49: 10, 99: 10}  # the first is written after 59
    assert list(records) == sorted(records)


def test_of_a_repeated_iteration_the_later_record_counts(tmp_path):
    train(tmp_path, 100, loss=1)
    records = read(train(tmp_path, 120, start=40, loss=3) / "metrics.json")
    assert list(series(records, "total_loss")) == [19, 39, 59, 79, 99, 119]
    assert [round(v) for v in series(records, "total_loss").values()] == [1, 1, 3, 3, 3, 3]
    assert series(records, "segm/AP") == {49: 30, 99: 30}


def test_what_a_run_had_recorded_beyond_the_place_where_it_was_resumed_does_not_count(tmp_path):
    train(tmp_path, 200, loss=1)
    records = read(train(tmp_path, 80, start=60, loss=3) / "metrics.json")
    assert list(series(records, "total_loss")) == [19, 39, 59, 79]
    assert list(series(records, "segm/AP")) == [49]


def test_broken_lines_are_passed_over(tmp_path):
    cut = '{"iteration": 59, "tot'
    lines = ({"iteration": 19, "total_loss": 3.0}, cut, '{"iteration": 39, "total_loss": 2}\n')
    file = write(tmp_path / "metrics.json", *lines, {"iteration": 59, "total_loss": 1.0}, cut)
    assert series(read(file), "total_loss") == {19: 3, 59: 1}
    assert read(write(tmp_path / "b.json", "[1]\n", "7\n", "{}\n", '{"iteration": null}')) == {}


def test_no_ap_is_no_value(tmp_path):
    records = read(write(tmp_path / "m.json", {"iteration": 9, "bbox/AP": float("nan")}))
    assert series(records, "bbox/AP") == {}


@pytest.mark.parametrize(
    ("smooth", "expected"),
    [(1, [5, 1, 9, 2, 4]), (3, [3, 5, 2, 4, 3]), (2, [3, 5, 5.5, 3, 4]), (99, [4] * 5)],
)
def test_smoothing_is_a_running_median(smooth, expected):
    records = {20 * i: {"total_loss": v} for i, v in enumerate([5, 1, 9, 2, 4])}
    assert list(series(records, "total_loss", smooth).values()) == expected


def test_a_kind_is_drawn_where_all_its_runs_have_been(tmp_path):
    runs = [read(train(tmp_path / str(n), 100 * n, loss=n) / "metrics.json") for n in (1, 2)]
    found = curve(runs, "total_loss")
    assert found.iterations == [19, 39, 59, 79, 99]
    assert found.values[0] == pytest.approx([0.981, 1.981])


# --- which runs are of a kind ----------------------------------------------------------------


def kinds(*runs, groups=()) -> dict[str, list[str]]:
    """Files relative to this folder, by kind."""
    found = grouped([str(run) for run in runs], list(groups)).items()
    return {name: [str(f.relative_to(Path.cwd()).parent) for f in fs] for name, fs in found}


@pytest.fixture
def runs(here):
    for name in ("a/seed1", "a/seed2", "a/seed10", "a/measured", "b/seed1", "c", "x/c"):
        write(here / name / "metrics.json", {"iteration": 19, "total_loss": 1.0})
    return here


def test_seeds_of_a_folder_are_of_a_kind(runs):
    a = ["a/seed1", "a/seed2"]
    assert kinds("a/seed1", "b/seed1", "a/seed2") == {"a": a, "b": ["b/seed1"]}
    assert kinds("a/seed1/metrics.json", "a/seed2/", "./a/seed1") == {"a": a}


def test_a_folder_of_seeds_is_all_of_them_in_order(runs):
    assert kinds("a") == {"a": ["a/seed1", "a/seed2", "a/seed10"]}


def test_other_runs_are_kinds_of_their_own(runs, monkeypatch):
    assert kinds("c", "a/measured") == {"c": ["c"], "measured": ["a/measured"]}
    monkeypatch.chdir(runs / "c")
    assert kinds(".") == {"c": ["."]}


def test_equal_names_of_different_folders_are_told_apart(runs):
    assert kinds("c", "x/c") == {f"{runs.name}/c": ["c"], "x/c": ["x/c"]}


def test_groups_are_what_the_user_says(runs):
    found = kinds("c", groups=["one=a/seed1,x/c", "all of b=b"])
    assert found == {"c": ["c"], "one": ["a/seed1", "x/c"], "all of b": ["b/seed1"]}


def test_the_relay_demos_and_the_tables_folders_are_grouped_by_config(here):
    """As relay_demo.py and reproduce.py lay them out."""
    demo, table = "output/relay_demo/relay_mask_rcnn_nl/seed1", "output/reproduce/mask_rcnn/seed1"
    for name in (demo, table):
        write(here / name / "metrics.json", {"iteration": 19})
    assert kinds(demo, table) == {"relay_mask_rcnn_nl": [demo], "mask_rcnn": [table]}
    for tool in ("relay_demo", "reproduce"):
        assert '/ f"seed{seed}"' in (ROOT / "tools" / f"{tool}.py").read_text()


# --- the figure ------------------------------------------------------------------------------


def test_the_figure_has_means_ranges_and_a_marker_for_each_evaluation(tmp_path):
    files = {n: train(tmp_path / str(n), 100, loss=n) / "metrics.json" for n in (1, 2, 4)}
    found = {"a": [read(files[1]), read(files[2])], "b": [read(files[4])]}
    figure = draw(found, {"total_loss": "loss", "segm/AP": "AP, %"}, "segm/AP", smooth=1)
    loss, ap = figure.axes
    assert (loss.get_xlabel(), loss.get_ylabel(), ap.get_ylabel()) == ("iteration", "loss", "AP, %")
    assert loss.lines[0].get_xydata()[0] == pytest.approx((19, 1.481))
    assert ap.lines[0].get_xydata() == pytest.approx(np.array([(49, 15), (99, 15)]))
    assert ap.lines[1].get_ydata() == pytest.approx([40, 40])
    band = ap.collections[0].get_datalim(ap.transData)
    assert (band.y0, band.y1) == pytest.approx((10, 20))
    for axis in (loss, ap):
        assert len({line.get_linestyle() for line in axis.lines}) == 2
        assert len({line.get_color() for line in axis.lines}) == 2
    assert all(line.get_marker() != "None" for line in ap.lines)
    assert all(line.get_marker() == "None" for line in loss.lines)
    [legend] = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["a (2)", "b (1)"]
    figure.draw_without_rendering()
    frames = [axis.get_window_extent() for axis in figure.axes]
    assert not legend.get_window_extent().count_overlaps(frames)


def test_no_two_kinds_look_alike(tmp_path):
    records = read(train(tmp_path, 40) / "metrics.json")
    figure = draw({str(n): [records] for n in range(35)}, {"total_loss": ""}, None, smooth=1)
    looks = {(line.get_color(), str(line._dash_pattern)) for line in figure.axes[0].lines}
    assert len(looks) == 35


def test_a_single_record_is_seen(tmp_path):
    records = read(train(tmp_path, 4) / "metrics.json")
    [axis] = draw({"a": [records]}, {"total_loss": ""}, None, smooth=1).axes
    assert axis.lines[0].get_marker() != "None"


# --- the command -----------------------------------------------------------------------------


@pytest.fixture
def plot(here, capsys):
    """Runs the tool; returns what it wrote and what it said."""

    def run(*words) -> tuple[list[str], str]:
        plot_curves.main([*map(str, words)])
        out, err = capsys.readouterr()
        return out.splitlines(), err

    return run


def test_both_formats_are_written_by_default(plot, here):
    for seed, loss in ((1, 1), (2, 2)):
        train(here / f"plain/seed{seed}", 100, loss=loss)
        train(here / f"blocks/seed{seed}", 100, loss=2 * loss)
    files, said = plot("plain", "blocks")
    assert (files, said) == (["curves.png", "curves.svg"], "")
    picture = np.array(Image.open("curves.png").convert("RGB"))
    assert picture.shape[1] > 1000
    for colour in plot_curves.COLOURS[:2]:
        rgb = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (picture == rgb).all(axis=2).any()
    drawn = Path("curves.svg").read_text()
    for text in ("plain (2)", "blocks (2)", "training total_loss", "validation segm/AP, %"):
        assert f"<!-- {text} -->" in drawn


@pytest.mark.parametrize(
    ("output", "files"),
    [("x.png", ["x.png"]), ("x.svg", ["x.svg"]), ("below/x", ["below/x.png", "below/x.svg"])],
)
def test_the_output_is_where_the_user_says(plot, here, output, files):
    (here / "below").mkdir()
    train(here / "run", 40)
    assert plot("run", "--output", output)[0] == files
    assert all(Path(file).stat().st_size for file in files)


def test_losses_and_metric_are_chosen(plot, here):
    train(here / "run", 100)
    words = ("--loss", "loss_mask", "--loss", "total_loss", "--metric", "bbox/AP", "--smooth", 3)
    plot("run", *words, "--output", "x.svg")
    drawn = Path("x.svg").read_text()
    for text in ("loss_mask, median of 3 records", "total_loss, median of 3 records"):
        assert f"<!-- training {text} -->" in drawn
    assert "<!-- validation bbox/AP, % -->" in drawn


@pytest.mark.parametrize(
    ("there", "drawn"),
    [
        (["bbox/AP", "keypoints/AP", "segm/AP"], "keypoints/AP"),
        (["bbox/AP", "segm/AP50", "segm/AP"], "segm/AP"),
        (["bbox/AP", "bbox/AP50"], "bbox/AP"),
        (["z/segm/AP", "b/segm/AP", "a/bbox/AP"], "b/segm/AP"),
    ],
)
def test_the_hardest_task_is_drawn(plot, here, there, drawn):
    train(here / "run", 100, ap=there)
    _, said = plot("run", "--output", "x.svg")
    assert f"<!-- validation {drawn}, % -->" in Path("x.svg").read_text()
    assert ("several test sets: drawn is b/segm/AP" in said) == (drawn == "b/segm/AP")


def test_without_evaluations_there_is_no_panel_of_them(plot, here):
    train(here / "run", 40, period=0)
    _, said = plot("run", "--output", "x.svg")
    assert "no run has evaluations, so there is no AP panel" in said
    assert "validation" not in Path("x.svg").read_text()


def test_a_run_that_is_behind_ends_its_kinds_curve_and_is_told(plot, here):
    train(here / "a/seed1", 200)
    train(here / "a/seed2", 40)
    train(here / "a/seed3", 0)
    _, said = plot("a", "--output", "x.svg")
    assert "seed3/metrics.json has no records yet, and is left out" in said
    assert "a: total_loss to iteration 39, where its first run ends; its last ends at 199" in said
    assert "a is not in the panel of segm/AP" in said
    assert "<!-- a (2) -->" in Path("x.svg").read_text()


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing to plot: give a RUN"),
        (["nowhere"], "no run nowhere; a RUN is the OUTPUT_DIR"),
        (["empty"], r"empty has no metrics\.json.* OUTPUT_DIR"),
        (["begun"], r"nothing to plot: no run has records yet"),
        (["run", "--loss", "loss_msk"], r"--loss loss_msk: .* there are: loss_mask, total_loss"),
        (["run", "--metric", "AP"], r"--metric AP: .* there are: bbox/AP, segm/AP"),
        (["run", "--smooth", "0"], r"--smooth: expected 1 .* got 0"),
        (["run", "--output", "x.pdf"], r"--output x\.pdf: expected a name in \.png or \.svg"),
        (["run", "--output", "no/x.png"], "--output no/x.png: there is no folder no"),
        (["run", "--output", "folder.png"], r"--output folder\.png: it cannot be written"),
        (["--group", "run"], "--group run: expected NAME=RUN,RUN"),
        (["--group", "a=run,"], "--group a=run,: expected NAME=RUN,RUN"),
        (["run", "--group", "run=run"], "two kinds of runs are called 'run'"),
    ],
)
def test_mistakes_are_told(plot, here, words, told):
    train(here / "run", 100)
    train(here / "begun", 0)
    for name in ("empty", "folder.png"):
        (here / name).mkdir()
    with pytest.raises(PlotError, match=told) as caught:
        plot(*words)
    assert "\n" not in str(caught.value)
    assert not list(here.glob("*.svg"))


def test_runs_that_never_meet_are_told(plot, here):
    for seed, iteration in ((1, 19), (2, 39)):
        write(here / f"a/seed{seed}/metrics.json", {"iteration": iteration, "total_loss": 1.0})
    with pytest.raises(PlotError, match="no kind's runs have total_loss in common"):
        plot("a")


def test_an_error_is_one_line_without_a_traceback(here):
    done = subprocess.run(
        [sys.executable, ROOT / "tools/plot_curves.py", "nowhere"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("plot_curves.py: error: there is no run nowhere")
    assert done.stderr.count("\n") == 1
