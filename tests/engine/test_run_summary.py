"""What a summary says of the code and the machine."""

import json

from nl_detectron.engine.hooks import commit, write_summary


def test_without_git_a_run_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None


def test_results_without_a_value_and_a_checkpoint_that_is_not_there_are_null(tmp_path):
    file = tmp_path / "summary.json"
    results = {"bbox": {"AP": 12.5, "APl": float("nan")}}
    write_summary(
        str(file), results, checkpoint=str(tmp_path / "gone.pth"), device="cpu", config="{}"
    )
    summary = json.loads(file.read_text())
    assert summary["results"] == {"bbox/AP": 12.5, "bbox/APl": None}
    assert summary["checkpoint"] is None and summary["peak_memory_mib"] > 10
