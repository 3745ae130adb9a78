"""Which runs there are, what tells them apart, and when they have learned."""

from dataclasses import replace

import pytest
from fast_part import first_cases

from benchmarks.evidence import settings as s
from benchmarks.evidence.runs import RUNS, TABLES, jobs, quick
from nl_detectron.engine import build_on_meta
from nl_detectron.modeling import find_blocks

STEPS = s.Schedule(iterations=100, rate=4.0, warmup=40, cool=10)


@pytest.mark.parametrize(
    ("iteration", "rate"), [(0, 0.1), (19, 2), (39, 4), (40, 4), (89, 4), (90, 0.4), (99, 0.4)]
)
def test_with_a_cool_end_the_rate_rises_stays_and_is_a_tenth_at_the_end(iteration, rate):
    assert STEPS.rate_at(iteration) == pytest.approx(rate)


@pytest.mark.parametrize(("iteration", "rate"), [(0, 0.1), (50, 2), (75, 0.5858), (100, 0)])
def test_without_a_cool_end_the_rate_rises_to_a_half_cosine(iteration, rate):
    assert replace(STEPS, cool=0).rate_at(iteration) == pytest.approx(rate, abs=1e-4)


def test_without_a_warmup_the_rate_is_whole_from_the_start():
    assert replace(STEPS, warmup=0).rate_at(0) == 4


def test_the_demo_configs_have_the_same_schedule_over_more_iterations():
    solver, plan = RUNS["baseline"].config(1).SOLVER, s.MASKS
    assert solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.BASE_LR == plan.rate
    assert solver.WARMUP_ITERS == plan.warmup and solver.WARMUP_METHOD == "linear"


def test_no_table_shows_a_seed_that_settings_were_chosen_on():
    assert min(seed for _, seed in jobs()) > 20


def test_tables_are_of_runs_that_there_are():
    assert {name for t in TABLES.values() for name, _ in t.values()} == set(RUNS)
    assert all(name == run.name for name, run in RUNS.items())


def test_jobs_come_once_and_after_what_they_start_from():
    found = jobs()
    assert len(set(found)) == len(found)
    assert {seed for name, seed in found if name == "control"} == set(range(101, 111))
    for name, seed in found:
        if start := RUNS[name].start:
            assert found.index((start, seed)) < found.index((name, seed))
    assert ("embedded_gaussian", 103) in jobs(["E-end"])
    assert jobs(["B"])[:4] == [(n, 101) for n in ("res2", "res3", "embedded_gaussian", "res5")]


def test_a_key_is_of_everything_that_decides_the_result():
    run = RUNS["baseline"]
    others = [
        replace(run, opts=("MODEL.FPN.NORM", "GN")),
        replace(run, data=replace(run.data, seed=9)),
        replace(run, data=replace(run.data, train=9)),
        replace(run, data=replace(run.data, beside=0.1)),
        replace(run, schedule=replace(run.schedule, cool=2)),
        replace(run, bands=(0, 9)),
        quick(run),
    ]
    keys = [run.key(1), run.key(2), *(other.key(1) for other in others)]
    assert len(set(keys)) == len(keys)
    assert replace(run).key(1) == keys[0]
    assert replace(run, name="by another name").key(1) == keys[0]


def test_a_config_key_to_come_leaves_keys_as_they_are(monkeypatch):
    from benchmarks.evidence import runs

    run = replace(RUNS["baseline"])
    cfg, before = run.config(1).clone(), run.key(1)
    defaults = runs.DEFAULTS.clone()
    for node in (cfg, defaults):
        node.defrost()
        node.MODEL.TO_COME = 7
    monkeypatch.setattr(runs, "DEFAULTS", defaults)
    monkeypatch.setattr(runs.Run, "config", lambda self, seed: cfg)
    assert replace(run, name="known to nobody").key(1) == before
    cfg.MODEL.TO_COME = 8
    assert replace(run, name="nor this").key(1) != before


def test_a_key_is_of_the_generator_too(monkeypatch):
    from benchmarks.evidence import runs

    run = replace(RUNS["baseline"])
    before = run.key(1)
    monkeypatch.setattr(runs, "fingerprint", lambda data: "other images")
    assert replace(run, name="not cached").key(1) != before


def test_a_key_is_of_the_run_it_starts_from_too(monkeypatch):
    run = RUNS["keypoints_far_head"]
    before = run.key(1)
    other = replace(RUNS["baseline"], schedule=replace(s.MASKS, cool=7))
    monkeypatch.setitem(RUNS, "baseline", other)
    assert replace(run, name="not cached").key(1) != before


BLOCKS = {  # by name: where, from the front; the others have res4.4 alone
    "baseline": [],
    "control": [],
    "res2": ["res2.1"],
    "res3": ["res3.2"],
    "res5": ["res5.1"],
    "5_blocks": ["res3.1", "res3.3", "res4.1", "res4.3", "res4.5"],
    "10_blocks": [*(f"res3.{i}" for i in range(4)), *(f"res4.{i}" for i in range(6))],
}
HEAD = [f"roi_heads.keypoint_head.nonlocal{i}" for i in (1, 2, 3, 4)]


@first_cases(3, "name", RUNS)
def test_blocks_stand_where_the_paper_has_them(name):
    short = name.split("_", 1)[1] if name.startswith(("distance", "pairs")) else name
    expected = BLOCKS.get(short, ["res4.4"])
    if name.startswith("keypoints"):
        expected = ["res4.4"] if name.endswith(("backbone", "both")) else []
    places = [f"backbone.bottom_up.{p.replace('.', '.nonlocal')}" for p in expected]
    if name.endswith(("_head", "_both")):
        places += HEAD
    assert list(find_blocks(build_on_meta(RUNS[name].config(1)))) == places


def flat(node, prefix=""):
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


TWIN = {
    "keypoints_far": "keypoints_far_baseline",
    "keypoints_end": "keypoints_end_baseline",
    "pairs": "pairs_baseline",
    "distance": "distance_baseline",
    "": "baseline",
}


@first_cases(3, "name", RUNS)
def test_a_run_differs_from_its_twin_in_the_block_alone(name):
    twin = RUNS[next(TWIN[group] for group in TWIN if name.startswith(group))]
    run = RUNS[name]
    assert (run.data, run.bands) == (twin.data, twin.bands)
    assert (run.schedule == twin.schedule) is (name != "no_warmup")
    ours, theirs = (dict(flat(r.config(3))) for r in (run, twin))
    other = {key for key in ours if ours[key] != theirs[key]}
    allowed = {"MODEL.BACKBONE.NAME", "MODEL.ROI_KEYPOINT_HEAD.NAME", "OUTPUT_DIR"}
    allowed |= {key for key in ours if key.startswith("SOLVER.NONLOCAL_")}  # of blocks alone
    assert all(key in allowed or key.startswith("MODEL.NONLOCAL.") for key in other)
    assert ours.keys() == theirs.keys()


def test_images_of_the_curves_are_not_those_of_the_result():
    for run in RUNS.values():
        assert run.watched.seed != run.data.seed
        assert run.watched.val == run.schedule.watched
