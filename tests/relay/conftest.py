"""A cache folder of its own for every test of the relay data sets."""

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"
