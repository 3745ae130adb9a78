"""The video demo's evidence: its runs, their record, accuracy by distance in time, and the page."""

import json
import shutil
import subprocess

import numpy as np
import pytest
import torch
from coco_files import restore_catalogues
from torch import nn

from benchmarks import video_page, video_runs, video_seeds
from benchmarks.seed_runs import OUTPUT, RESULTS
from benchmarks.video_distance import accuracy_by_distance, frames_seen
from benchmarks.video_page import FIGURE, NOT_YET, page, reach
from benchmarks.video_runs import BLOCK, C2D, FEW, GROUPS, I3D, LEARNED, SEEDS, Job, jobs
from nl_detectron.data.video.sampling import clip_frames, clip_starts
from nl_detectron.engine.video_scores import ScoreFiles, VideoScores
from nl_detectron.modeling import build_model
from nl_detectron.video_relay import VIDEO_RELAY, VideoRelay, register_split, write_videos

NAMES = sorted({job.name for job in jobs()})
TINY = VideoRelay(pictures=4, gap=1, hold=1, size=32, margin=0, patch=8, shape=10, train=1, val=6)


def make_result(accuracy: float, right: dict[int, int] | None = None) -> dict:
    """A run's result; ``right`` are the videos out of 50 by distance."""
    counts = [{"distance": d, "videos": 50, "right": n} for d, n in (right or {3: 25}).items()]
    versions = {"torch": "2"}
    return {
        **{"video": accuracy, "distances": counts, "versions": versions},
        **{"seconds": 200.0, "parameters": 1234},
    }


def cells(text: str) -> list[list[str]]:
    """Rows of all tables of a page."""
    return [[c.strip() for c in line.split("|")[1:-1]] for line in text.split("\n") if "|" in line]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Nothing is written outside of a temporary folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(video_runs, "RECORD", tmp_path / "relay_video.json")
    monkeypatch.setattr(video_page, "DOCS", tmp_path)
    monkeypatch.setattr(video_page, "PAGE", tmp_path / "page.md")
    return tmp_path


@pytest.fixture
def trained(here, monkeypatch):
    """Runs in the order of their training, by processes that take no time.

    Those without the block do not learn, nor does seed 102; that with the form gaussian and the
    seed 103 ends with an error.
    """
    order = []

    def run(words, env, **_):
        job = Job(words[-3], int(words[-2]), int(words[-1]))
        assert env["OMP_NUM_THREADS"] == str(job.threads)
        order.append(job)
        if job.name.endswith("gaussian") and job.seed == 103:
            (job.folder / OUTPUT).write_text("Traceback:\n  line\nValueError: no such thing\n\n")
            raise subprocess.CalledProcessError(1, words)
        learns = "_nl" in job.name and job.seed != 102
        result = make_result(99.0, {3: 50, 7: 48}) if learns else make_result(51.0, {3: 20, 7: 30})
        (job.folder / RESULTS).write_text(json.dumps(result))

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(video_seeds, "prepare_videos", lambda jobs: None)
    return order


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


def scores_of(*classes: int) -> dict[str, VideoScores]:
    """Scores of videos "0", "1" and so on, in which the ensemble has these classes and the one
    view has others."""
    return {
        str(number): VideoScores(np.eye(3)[found], np.eye(3)[(found + 1) % 3])
        for number, found in enumerate(classes)
    }


def test_accuracy_by_distance_counts_the_ensembles_class():
    labels = {"0": 2, "1": 0, "2": 1, "3": 2, "4": 0}
    distances = {"4": 7, "0": 3, "1": 3, "2": 3, "3": 5}
    assert accuracy_by_distance(scores_of(2, 1, 1, 0, 0), labels, distances) == [
        {"distance": 3, "videos": 3, "right": 2},
        {"distance": 5, "videos": 1, "right": 0},
        {"distance": 7, "videos": 1, "right": 1},
    ]
    with pytest.raises(ValueError, match="of the same videos, got 4, 5 and 5"):
        accuracy_by_distance(scores_of(2, 1, 1, 0), labels, distances)


@pytest.fixture
def evaluated(here, monkeypatch):
    """A config whose evaluation has left scores that are right for all videos but the first."""
    pytest.importorskip("av", reason="needs PyAV: make setup-video")
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(here / "cache"))
    monkeypatch.setitem(VIDEO_RELAY, "few", TINY)
    with restore_catalogues():
        write_videos(TINY)
        for split in ("train", "val"):
            register_split(f"few_{split}", TINY, split)
        cfg = Job(BLOCK, 101, 1).config()
        cfg.defrost()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("few_train",), ("few_val",)
        files = ScoreFiles(here / cfg.OUTPUT_DIR / "inference/few_val", "key", 0)
        files.start()
        for number, record in enumerate(video_seeds.DatasetCatalog.get("few_val")):
            right = np.eye(3)[(record["label"] + (number == 0)) % 3]
            files.append(record["video_id"], VideoScores(right, right))
        yield cfg


def test_a_run_has_its_accuracy_by_distance(evaluated, monkeypatch):
    found = {"video": 83.3, "minutes": 0.1, "versions": {"torch": "2"}}
    monkeypatch.setattr(video_seeds, "train_relay_demo", lambda cfg: found)
    result = video_seeds.train_one(evaluated)
    counts = result["distances"]
    assert [sum(d[key] for d in counts) for key in ("videos", "right")] == [6, 5]
    assert {d["distance"] for d in counts} <= {1, 2, 3} and len(counts) > 1
    assert result["video"] == 83.3 and result["parameters"] > 10_000 and result["seconds"] >= 0
    found["video"] = 66.7
    with pytest.raises(RuntimeError, match=r"right for 5 of 6 videos, but .* accuracy is 66\.7"):
        video_seeds.train_one(evaluated)


STACK = nn.Sequential(
    nn.Conv3d(3, 2, (5, 3, 3), padding=(2, 1, 1)),  # 5 frames
    nn.MaxPool3d((3, 2, 2), (2, 2, 2), (1, 0, 0)),  # + 2, and steps of 2
    nn.Conv3d(2, 2, (3, 1, 1), dilation=(2, 1, 1), padding=(2, 0, 0)),  # + 2 x 2 x 2
    nn.Conv3d(2, 2, (1, 3, 3), padding=(0, 1, 1)),
    nn.MaxPool3d(2),  # + 1 x 2, and steps of 4
    nn.Conv3d(2, 2, 3, padding=1),  # + 2 x 4
)


@pytest.mark.parametrize(("layers", "frames"), [(1, 5), (2, 7), (3, 15), (4, 15), (5, 17), (6, 25)])
def test_the_frames_that_a_stack_sees_are_counted_by_hand(layers, frames):
    assert frames_seen(STACK[:layers], torch.zeros(1, 3, 8, 8, 8)) == frames


@pytest.mark.parametrize(("name", "distance"), [(C2D, 2), (I3D, 22)])
def test_the_demos_convs_reach_as_far_as_gradients(name, distance):
    """With weights above zero and means for maxima, all that counts has a gradient."""
    assert reach(name) == distance
    cfg = Job(name, 101, 1).config()
    backbone = build_model(cfg).backbone.double().eval()
    for module in list(backbone.modules()):
        for child, pool in list(module.named_children()):
            if isinstance(pool, nn.MaxPool3d):
                setattr(module, child, nn.AvgPool3d(pool.kernel_size, pool.stride, pool.padding))
        if isinstance(module, nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    clip = torch.ones(1, 3, 64, 32, 32, dtype=torch.double, requires_grad=True)
    last = backbone(clip)["res5"]
    [gradient] = torch.autograd.grad(last[:, :, last.shape[2] // 2].sum(), clip)
    reached = gradient.sum(dim=(0, 1, 3, 4)).nonzero()
    assert reached.max() - reached.min() == distance


def test_with_no_results_every_row_says_so(here):
    text = page({})
    rows = cells(text)
    labels = [label for group in ("arch", "axes", "forms") for label in GROUPS[group]]
    for label in labels:
        assert [label, "0 of 3", "–", NOT_YET] in [row[:4] for row in rows]
    assert [["105", NOT_YET, NOT_YET, "–"]] == [row for row in rows if row[0] == "105"]
    assert "_Not run yet._" in text and FIGURE not in text and "Failed runs" not in text
    video_page.draw({}, here / FIGURE)
    assert not (here / FIGURE).exists()


def test_distances_have_the_accuracy_of_each_architecture(here):
    results = {Job(C2D, s, 1): make_result(50, {3: 30, 7: n}) for s, n in ((101, 20), (102, 30))}
    results[Job(f"{I3D}_nl", 103, 1)] = make_result(99, {3: 50, 7: 45})
    results[Job(BLOCK, 104, 1)] = make_result(99, {3: 1, 7: 1})  # no seed of this table
    text = page(results)
    rows = cells(text.partition("## Distance in time")[2])
    assert rows[0] == ["distance", "videos", "C2D", "C2D + 1 block", "I3D", "I3D + 1 block"]
    assert rows[2] == [
        *("3", "50", "60.0 (60.0 to 60.0)", NOT_YET),
        *(NOT_YET, "100.0 (100.0 to 100.0)"),
    ]
    assert rows[3][2:] == ["50.0 (40.0 to 60.0)", NOT_YET, NOT_YET, "90.0 (90.0 to 90.0)"]
    assert "In the I3D" in text and "spans 23 frames" in text and "at most 22 apart" in text
    assert f"]({FIGURE})" in text
    video_page.draw(results, here / FIGURE)
    assert (here / FIGURE).stat().st_size > 5000


def test_a_remark_stands_below_its_table(monkeypatch):
    monkeypatch.setitem(video_page.REMARKS, ("axes", "space"), "It sees one frame.")
    text = page({}).partition("## Axes")[2].partition("## Pairwise")[0]
    assert text.rstrip().endswith("- **space**: It sees one frame.")


def test_remarks_are_on_rows_that_there_are():
    for group, label in video_page.REMARKS:
        assert label in GROUPS[group]


def test_the_page_in_docs_is_of_the_results_kept_there():
    results = video_runs.record().load()
    hint = "run python -m benchmarks.video_seeds --report"
    assert video_page.PAGE.read_text() == page(results), hint
    drawn = (video_page.DOCS / FIGURE).exists()
    assert drawn == (f"]({FIGURE})" in page(results)), hint


def test_seeds_of_the_tables_are_none_that_settings_are_chosen_on():
    assert set(FEW) <= set(SEEDS) and not set(SEEDS) & set(video_runs.TUNING)
    assert video_page.MOST_OF_A_SUM < LEARNED
