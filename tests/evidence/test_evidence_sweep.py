"""The sweep runs what is missing or stale, in order, and outlives a run that fails."""

import json
import re
import subprocess
import sys
from threading import Lock
from types import SimpleNamespace

import pytest

from benchmarks.evidence import sweep
from benchmarks.evidence.runs import RUNS, jobs


@pytest.fixture
def trained(monkeypatch, folders):
    """Names and seeds in the order they were trained, by processes that take no time."""
    order, lock = [], Lock()

    def run(words, stdout, env, **_):
        name, seed = words[words.index("benchmarks.evidence.train") + 1], int(words[-1])
        assert words[0] == sys.executable and env["OMP_NUM_THREADS"] == "1"
        order.append((name, seed))
        if name == "control":
            stdout.write("out of luck")
            return SimpleNamespace(returncode=1)
        with lock:  # several threads would register one data set
            result = {"key": RUNS[name].key(seed), "ap": {"box": 12.34}, "minutes": 3}
        folders.results.mkdir(exist_ok=True)
        folders.result(name, seed).write_text(json.dumps(result))
        weights = folders.weights(RUNS[name], seed)
        weights.parent.mkdir(parents=True, exist_ok=True)
        weights.write_text("weights")
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sweep, "FULL", folders)
    return order


def run_main(monkeypatch, *words):
    monkeypatch.setattr(sys, "argv", ["sweep", *words])
    sweep.main()


def test_what_is_there_is_not_trained_again(monkeypatch, trained, capsys):
    run_main(monkeypatch, "--only", "F", "--jobs", "1")
    assert trained == jobs(["F"])
    line = r"\[6/6\] distance_\w+, seed \d+: box AP 12.3, 3.0 minutes; 0 minutes left"
    assert re.search(line, capsys.readouterr().out)
    run_main(monkeypatch, "--only", "F")
    assert len(trained) == 6
    assert "6 runs are done, 0 to do" in capsys.readouterr().out


def test_a_missing_or_stale_result_is_made_anew(monkeypatch, trained, folders, capsys):
    run_main(monkeypatch, "--only", "F")
    folders.result("distance_baseline", 101).unlink()
    folders.result("distance_baseline", 102).write_text('{"key": "another"}')
    run_main(monkeypatch, "--only", "F", "--list")
    said = [line.split()[0] for line in capsys.readouterr().out.splitlines()[-6:]]
    assert said == ["missing", "done", "stale", "done", "done", "done"]
    run_main(monkeypatch, "--only", "F", "--jobs", "1")
    assert trained[6:] == [("distance_baseline", 101), ("distance_baseline", 102)]


def test_runs_wait_for_what_they_start_from(monkeypatch, trained):
    run_main(monkeypatch, "--only", "E-end", "--jobs", "3")
    assert sorted(trained) == sorted(jobs(["E-end"]))
    for name, seed in trained:
        if start := RUNS[name].start:
            assert trained.index((start, seed)) < trained.index((name, seed))


def test_weights_that_are_not_here_are_trained_again_for_runs_to_come(
    monkeypatch, trained, folders
):
    run_main(monkeypatch, "--only", "E-end")
    for path in (folders.work / "weights").iterdir():
        path.unlink()
    trained.clear()
    run_main(monkeypatch, "--only", "E-end")
    assert trained == []
    folders.result("keypoints_end_head", 102).unlink()
    run_main(monkeypatch, "--only", "E-end", "--jobs", "1")
    assert trained == [("baseline", 102), ("keypoints_end_head", 102)]


def test_a_run_that_fails_is_reported_at_the_end_and_stops_no_other(
    monkeypatch, trained, folders, capsys
):
    with pytest.raises(SystemExit, match="failed: control, seed 101, control, seed 102"):
        run_main(monkeypatch, "--only", "A", "--jobs", "1")
    assert trained == jobs(["A"])
    log = folders.work / "logs" / "control-seed101.txt"
    assert f"control, seed 101: FAILED, see {log}" in capsys.readouterr().out
    assert log.read_text() == "out of luck"


def test_the_quick_sweep_is_of_short_runs_in_folders_of_their_own(monkeypatch, tmp_path):
    asked = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "sweep", lambda todo, folders, _: asked.append((todo, folders)))
    run_main(monkeypatch, "--quick")
    [(missing, folders)] = asked
    assert missing == [("baseline", 1), ("control", 1), ("embedded_gaussian", 1)]
    assert folders.quick and folders.results.parts[0] == "output"
    assert folders.run("baseline").schedule.iterations < RUNS["baseline"].schedule.iterations
