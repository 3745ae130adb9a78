"""Runs of the video demo's evidence: which there are, and how they are trained and recorded."""

import json
import shutil
import subprocess

import pytest
from video_results import cells

from benchmarks import video_runs, video_seeds
from benchmarks.video_runs import BLOCK, C2D, GROUPS, I3D, Job, jobs
from nl_detectron.data.video.sampling import clip_frames, clip_starts
from nl_detectron.video_relay import VIDEO_RELAY, VideoRelay

NAMES = sorted({job.name for job in jobs()})


@pytest.mark.parametrize(
    ("groups", "count"), [(["demo"], 23), (["arch"], 12), (["axes"], 9), (["forms"], 18)]
)
def test_a_group_has_its_runs_once(groups, count):
    found = jobs(groups)
    assert len(found) == len(set(found)) == count
    assert [job.threads for job in found] == sorted(job.threads for job in found)


def test_runs_of_several_groups_are_shared():
    assert len(jobs()) == len(set(jobs())) == 20 + 3 + 2 * 3 + 2 * 3 + 5 * 3


@pytest.mark.parametrize(
    ("group", "read"),
    [
        ("axes", lambda node: node.AXES),
        ("forms", lambda node: node.PAIRWISE),
    ],
)
def test_a_row_changes_the_key_that_it_names_and_no_other(group, read):
    demo = Job(BLOCK, 101, 1).config().MODEL.NONLOCAL
    for label, name in GROUPS[group].items():
        node = Job(name, 101, 1).config().MODEL.NONLOCAL
        assert read(node) == label
        assert sum(node[key] != demo[key] for key in demo) == (name != BLOCK)


def test_the_demos_views_have_all_pictures_in_their_order():
    """Otherwise the distance between two pictures would not be the video's."""
    cfg = Job(BLOCK, 101, 1).config()
    relay, clip = video_runs.videos_of(cfg), cfg.INPUT.VIDEO
    frames = relay.pictures * relay.hold
    for start in clip_starts(frames, cfg.TEST.VIDEO.CLIPS):
        numbers = clip_frames(frames, start, clip.FRAMES, clip.RATE)
        assert (numbers // relay.hold).tolist() == list(range(relay.pictures))


@pytest.mark.slow
def test_another_recipe_has_another_hash(monkeypatch, tmp_path):
    before = {name: video_runs.recipe(name) for name in NAMES}
    assert len(set(before.values())) == len(NAMES)
    try:
        video_runs.recipe.cache_clear()
        assert {name: video_runs.recipe(name) for name in NAMES} == before
        configs = tmp_path / "Demo"
        shutil.copytree(video_runs.CONFIGS, configs)
        base = (configs / "Base-RelayVideo.yaml").read_text()
        (configs / "Base-RelayVideo.yaml").write_text(base.replace("0.001", "0.002"))
        with monkeypatch.context() as patch:
            patch.setattr(video_runs, "CONFIGS", configs)
            video_runs.recipe.cache_clear()
            assert video_runs.recipe(BLOCK) != before[BLOCK]
        with monkeypatch.context() as patch:
            patch.setitem(VIDEO_RELAY, "relay_video", VideoRelay(gap=4))
            video_runs.recipe.cache_clear()
            assert video_runs.recipe(BLOCK) != before[BLOCK]
    finally:
        video_runs.recipe.cache_clear()


@pytest.mark.slow
def test_only_missing_runs_are_trained(trained):
    assert video_seeds.main(["--only", "axes", "--seeds", "101", "--workers", "1"]) == 0
    assert trained == [Job(name, 101, 1) for name in GROUPS["axes"].values()]
    trained.clear()
    assert video_seeds.main(["--only", "demo", "arch", "--seeds", "101", "104"]) == 0
    one, two = ([job for job in trained if job.threads == n] for n in (1, 2))
    assert trained == [*one, *two] and sorted(two) == [Job(BLOCK, s, 2) for s in (101, 104)]
    others = [Job(C2D, 101, 1), Job(I3D, 101, 1), Job(f"{I3D}_nl", 101, 1)]
    assert sorted(one) == sorted([*others, Job(BLOCK, 104, 1)])  # the demo's 101 is there already
    records = json.loads(video_runs.RECORD.read_text())
    records[0]["recipe"] = "another"
    video_runs.RECORD.write_text(json.dumps(records))
    trained.clear()
    video_seeds.main(["--only", "demo", "axes", "arch", "--seeds", "101", "104"])
    assert trained == [Job(records[0]["name"], records[0]["seed"], records[0]["threads"])]


@pytest.mark.slow
def test_runs_that_do_not_learn_are_counted_and_shown(trained, here):
    assert video_seeds.main([]) == 1
    rows = cells((here / "page.md").read_text())
    assert ["C2D + 1 block, 1 thread", "10 of 10", "9 of 10"] in [row[:3] for row in rows]
    assert ["C2D, 1 thread", "3 of 3", "0 of 3", "51.0 (51.0 to 51.0)"] in [r[:4] for r in rows]
    assert ["102", "51.0", "51.0", "51.0"] in rows
    assert ["110", "99.0", "99.0", "–"] in rows
    assert ["I3D + 1 block", "3 of 3", "2 of 3", "83.0 (51.0 to 99.0)"] in [r[:4] for r in rows]


def test_a_run_with_an_error_is_counted_shown_and_repeated(trained, here, capsys):
    assert video_seeds.main(["--only", "forms"]) == 1
    assert "1 of 18 runs ended with an error" in capsys.readouterr().out
    text = (here / "page.md").read_text()
    assert ["gaussian", "2 of 3, 1 failed", "1 of 3"] in [row[:3] for row in cells(text)]
    assert "- relay_video_c2d_nl-PAIRWISE-gaussian, seed 103, 1 thread: ValueError: no such" in text
    trained.clear()
    assert video_seeds.main(["--only", "forms"]) == 1
    assert trained == [Job(GROUPS["forms"]["gaussian"], 103, 1)]


@pytest.mark.parametrize("code", [130, 143, -2, -15])
def test_a_run_that_a_signal_stopped_is_no_failure(trained, monkeypatch, code):
    def stop(words, **_):
        raise subprocess.CalledProcessError(code, words)

    monkeypatch.setattr(subprocess, "run", stop)
    with pytest.raises(subprocess.CalledProcessError):
        video_seeds.main(["--only", "axes", "--seeds", "101"])
    assert not video_runs.RECORD.exists()


def test_tuning_seeds_are_on_no_page(trained, here, capsys):
    assert video_seeds.main(["--tune", "--seeds", "1"]) == 0
    assert "relay_video_c2d_nl, seed 1, 1 thread: 99.0 % in 200 s" in capsys.readouterr().out
    assert trained == [Job(BLOCK, 1, 1)]
    assert not video_runs.RECORD.exists() and not (here / "page.md").exists()
    video_seeds.main(["--tune"])
    assert sorted(trained) == [Job(BLOCK, seed, 1) for seed in (1, 2, 3)]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--seeds", "1"], "--seeds: expected some of [101, 102, 103, 104,"),
        (["--tune", "--seeds", "101"], "--seeds: expected some of [1, 2, 3], got [101]"),
        (["--only", "axes", "--seeds", "104"], "expected some of [101, 102, 103], got [104]"),
        (["--tune", "--only", "axes"], "--tune is of the demo alone"),
        (["--workers", "0"], "--workers: expected 1 or more, got 0"),
        (["--only", "axis"], "invalid choice: 'axis'"),
    ],
)
def test_options_that_mean_no_run_are_refused(words, message, capsys):
    with pytest.raises(SystemExit):
        video_seeds.parse_arguments(words)
    assert message in capsys.readouterr().err
