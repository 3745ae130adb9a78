"""Tiny runs: a few small images and a few iterations."""

from dataclasses import replace

import pytest

from benchmarks.evidence import settings as s
from benchmarks.evidence.runs import RUNS
from benchmarks.evidence.train import Folders

SHORT = s.Schedule(iterations=2, every=1, watched=2)
FEW = {"height": 64, "width": 128, "train": 16, "val": 3}


@pytest.fixture(autouse=True)
def separate_folders(tmp_path_factory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path_factory.getbasetemp() / "relay"  # tests share images
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(folder))


@pytest.fixture
def folders(tmp_path):
    return Folders(tmp_path / "results", tmp_path / "work")


@pytest.fixture
def tiny(monkeypatch):
    """Replaces a run in ``RUNS`` by a tiny one: ``tiny(name, **changes)``."""

    def make(name, **changes):
        data = replace(RUNS[name].data, **FEW)
        run = replace(RUNS[name], data=data, schedule=SHORT, **changes)
        monkeypatch.setitem(RUNS, name, run)
        return run

    return make
