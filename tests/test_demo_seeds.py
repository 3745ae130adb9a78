"""The demo from many seeds: which runs there are, and that none is lost or left out."""

import json
import subprocess

import pytest

from benchmarks import demo_seeds
from benchmarks.demo_seeds import Job, jobs
from nl_detectron.relay import Relay

BLOCK = Job("relay_mask_rcnn_nl", 101, 1)
KEYPOINTS = Job("relay_keypoint_rcnn_nl", 101, 1)


@pytest.fixture
def trained(monkeypatch, tmp_path):
    """Runs in the order of their training, by processes that take no time; seed 102 fails."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_seeds, "RECORD", tmp_path / "relay_demo.json")
    order = []

    def run(words, env, **_):
        job = Job(words[-3], int(words[-2]), int(words[-1]))
        assert env["OMP_NUM_THREADS"] == str(job.threads)
        order.append(job)
        ap = 30.0 if job.seed == 102 or not job.name.endswith("_nl") else 80.0
        task = "keypoint" if job.start else "mask"
        results = {"box": ap, task: ap, "minutes": 2.0, "versions": {"torch": "2"}}
        (job.folder / "demo.json").write_text(json.dumps(results))
        (job.folder / "model_final.pth").write_text("weights")

    monkeypatch.setattr(subprocess, "run", run)
    return order


@pytest.mark.slow
def test_a_run_comes_after_the_one_that_it_starts_from(trained):
    demo_seeds.sweep(2)
    assert sorted(trained) == sorted(jobs())
    for job in trained:
        assert not job.start or trained.index(job.start) < trained.index(job)


def test_only_missing_runs_are_trained_and_what_they_start_from(trained):
    demo_seeds.sweep(2)
    records = json.loads(demo_seeds.RECORD.read_text())
    of_another_recipe = BLOCK._replace(seed=119)
    for record in records:
        if Job(record["name"], record["seed"], record["threads"]) == of_another_recipe:
            record["recipe"] = "another"
    records = [r for r in records if (r["name"], r["seed"]) != (KEYPOINTS.name, 101)]
    demo_seeds.RECORD.write_text(json.dumps(records))
    (BLOCK.folder / "model_final.pth").unlink()
    trained.clear()
    demo_seeds.sweep(1)
    again = [of_another_recipe, BLOCK, KEYPOINTS, KEYPOINTS._replace(threads=2)]
    assert sorted(trained) == sorted(again)


def test_runs_that_do_not_learn_are_counted_and_shown(trained):
    demo_seeds.sweep(2)
    page = demo_seeds.page(demo_seeds.load_results())
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.split("\n")]
    assert ["block, 1 thread", "20 of 20", "19 of 20"] in [row[:3] for row in rows]
    assert ["twin, 1 thread", "20 of 20", "0 of 20"] in [row[:3] for row in rows]
    assert ["102", *["30.0 / 30.0"] * 3] in rows
    assert ["120", "80.0 / 80.0", "80.0 / 80.0", "30.0 / 30.0"] in rows


def test_another_recipe_has_another_hash(monkeypatch):
    before = demo_seeds.recipe(KEYPOINTS.name)
    assert len({before, *map(demo_seeds.recipe, ("relay_mask_rcnn_nl", "relay_mask_rcnn"))}) == 3
    monkeypatch.setitem(demo_seeds.RELAY_DATASETS, "relay", Relay(seed=9))
    demo_seeds.recipe.cache_clear()
    assert demo_seeds.recipe(KEYPOINTS.name) != before
    demo_seeds.recipe.cache_clear()
