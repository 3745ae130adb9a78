"""Runs of the video demo's evidence that take no time, in a temporary folder."""

import json
import subprocess

import pytest
from video_results import make_result

from benchmarks import video_page, video_runs, video_seeds
from benchmarks.seed_runs import OUTPUT, RESULTS
from benchmarks.video_runs import Job


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
