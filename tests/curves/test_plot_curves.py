"""tools/plot_curves.py: what it writes and says, and mistakes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recorded_runs import write_metrics, write_run

from nl_detectron.curves.figure import COLOURS
from nl_detectron.errors import UsageError
from tools.plot_curves import main

ROOT = Path(__file__).parents[2]


@pytest.fixture
def plot(here, capsys):
    """Runs the tool; returns what it wrote and what it said."""

    def run(*words) -> tuple[list[str], str]:
        main([*map(str, words)])
        out, err = capsys.readouterr()
        return out.splitlines(), err

    return run


@pytest.mark.slow
def test_both_formats_are_written_by_default(plot, here):
    for seed, loss in ((1, 1), (2, 2)):
        write_run(here / f"plain/seed{seed}", 100, loss=loss)
        write_run(here / f"blocks/seed{seed}", 100, loss=2 * loss)
    files, said = plot("plain", "blocks")
    assert (files, said) == (["curves.png", "curves.svg"], "")
    picture = np.array(Image.open("curves.png").convert("RGB"))
    assert picture.shape[1] > 1000
    for colour in COLOURS[:2]:
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
    write_run(here / "run", 40)
    assert plot("run", "--output", output)[0] == files
    assert all(Path(file).stat().st_size for file in files)


def test_losses_and_metric_are_chosen(plot, here):
    write_run(here / "run", 100)
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
    write_run(here / "run", 100, ap=there)
    _, said = plot("run", "--output", "x.svg")
    assert f"<!-- validation {drawn}, % -->" in Path("x.svg").read_text()
    assert ("several test sets: drawn is b/segm/AP" in said) == (drawn == "b/segm/AP")


def test_without_evaluations_there_is_no_panel_of_them(plot, here):
    write_run(here / "run", 40, period=0)
    _, said = plot("run", "--output", "x.svg")
    assert "no run has evaluations, so there is no AP panel" in said
    assert "validation" not in Path("x.svg").read_text()


def test_a_run_that_is_behind_ends_its_groups_curve_and_is_reported(plot, here):
    write_run(here / "a/seed1", 200)
    write_run(here / "a/seed2", 40)
    write_run(here / "a/seed3", 0)
    _, said = plot("a", "--output", "x.svg")
    assert "seed3/metrics.json has no records yet, and is left out" in said
    assert "a: total_loss to iteration 39, where its first run ends; its last ends at 199" in said
    assert "a is not in the panel of segm/AP" in said
    assert "<!-- a (2) -->" in Path("x.svg").read_text()


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        ([], "nothing to plot: give a RUN"),
        (["nowhere"], "no run nowhere; a RUN is the OUTPUT_DIR"),
        (["empty"], r"empty has no metrics\.json.* OUTPUT_DIR"),
        (["begun"], r"nothing to plot: no run has records yet"),
        (["run", "--loss", "loss_msk"], r"--loss loss_msk: .* there are: loss_mask, total_loss"),
        (["run", "--metric", "AP"], r"--metric AP: .* there are: bbox/AP, segm/AP"),
        (["run", "--smooth", "0"], r"--smooth: expected 1 .* got 0"),
        (["run", "--output", "x.pdf"], r"--output x\.pdf: expected a name in \.png or \.svg"),
        (["run", "--output", "."], r"--output \.: expected a name in \.png"),
        (["run", "--output", "no/x.png"], "--output no/x.png: there is no folder no"),
        (["run", "--output", "folder.png"], r"--output folder\.png: it cannot be written"),
        (["--group", "run"], "--group run: expected NAME=RUN,RUN"),
        (["--group", "a=run,"], "--group a=run,: expected NAME=RUN,RUN"),
        (["run", "--group", "run=run"], "two kinds of runs are called 'run'"),
    ],
)
def test_mistakes_are_reported(plot, here, words, reported):
    write_run(here / "run", 100)
    write_run(here / "begun", 0)
    for name in ("empty", "folder.png"):
        (here / name).mkdir()
    with pytest.raises(UsageError, match=reported) as caught:
        plot(*words)
    assert "\n" not in str(caught.value)
    assert not list(here.glob("*.svg"))


def test_runs_that_never_meet_are_reported(plot, here):
    for seed, iteration in ((1, 19), (2, 39)):
        write_metrics(
            here / f"a/seed{seed}/metrics.json", {"iteration": iteration, "total_loss": 1.0}
        )
    with pytest.raises(UsageError, match="no kind's runs have total_loss in common"):
        plot("a")


@pytest.mark.slow
def test_an_error_is_one_line_without_a_traceback(here):
    done = subprocess.run(
        [sys.executable, ROOT / "tools/plot_curves.py", "nowhere"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("plot_curves.py: error: there is no run nowhere")
    assert done.stderr.count("\n") == 1
