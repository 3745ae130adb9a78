"""Which runs are seeds of one group, and what a group is called."""

from pathlib import Path

import pytest
from recorded_runs import write_metrics

from nl_detectron.curves import group_runs

ROOT = Path(__file__).parents[2]


def groups_of(*runs, groups=()) -> dict[str, list[str]]:
    """Files relative to this folder, by group."""
    found = group_runs([str(run) for run in runs], list(groups)).items()
    return {name: [str(f.relative_to(Path.cwd()).parent) for f in fs] for name, fs in found}


@pytest.fixture
def runs(here):
    for name in ("a/seed1", "a/seed2", "a/seed10", "a/measured", "b/seed1", "c", "x/c"):
        write_metrics(here / name / "metrics.json", {"iteration": 19, "total_loss": 1.0})
    return here


def test_seeds_of_a_folder_are_of_a_group(runs):
    a = ["a/seed1", "a/seed2"]
    assert groups_of("a/seed1", "b/seed1", "a/seed2") == {"a": a, "b": ["b/seed1"]}
    assert groups_of("a/seed1/metrics.json", "a/seed2/", "./a/seed1") == {"a": a}


def test_a_folder_of_seeds_is_all_of_them_in_order(runs):
    assert groups_of("a") == {"a": ["a/seed1", "a/seed2", "a/seed10"]}


def test_other_runs_are_groups_of_their_own(runs, monkeypatch):
    assert groups_of("c", "a/measured") == {"c": ["c"], "measured": ["a/measured"]}
    monkeypatch.chdir(runs / "c")
    assert groups_of(".") == {"c": ["."]}


def test_equal_names_of_different_folders_are_told_apart(runs):
    assert groups_of("c", "x/c") == {f"{runs.name}/c": ["c"], "x/c": ["x/c"]}


def test_of_several_runs_those_that_are_there_are_plotted(runs):
    said = []
    found = group_runs(["c", "b", "nowhere"], say=said.append)
    assert list(found) == ["c", "b"]
    assert said == ["there is no run nowhere yet, so the others are plotted without it"]


def test_groups_are_what_the_user_says(runs):
    found = groups_of("c", groups=["one=a/seed1,x/c", "all of b=b"])
    assert found == {"c": ["c"], "one": ["a/seed1", "x/c"], "all of b": ["b/seed1"]}


def test_the_relay_demos_and_the_tables_folders_are_grouped_by_config(here):
    """As relay_demo.py and reproduce.py lay them out."""
    demo, table = "output/relay_demo/relay_mask_rcnn_nl/seed1", "output/reproduce/mask_rcnn/seed1"
    for name in (demo, table):
        write_metrics(here / name / "metrics.json", {"iteration": 19})
    assert groups_of(demo, table) == {"relay_mask_rcnn_nl": [demo], "mask_rcnn": [table]}
    assert '/ f"seed{seed}"' in (ROOT / "tools/relay_demo.py").read_text()
