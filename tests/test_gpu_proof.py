"""`make gpu-proof` at a tiny size: all parts run, and the page shows what they found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_page, gpu_proof

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable


@pytest.mark.slow
def test_all_parts_run_at_a_tiny_size(tmp_path):
    command = [PYTHON, "-W", "ignore", "-m", "benchmarks.gpu_proof", "--quick"]
    subprocess.run([*command, "--output", tmp_path], cwd=ROOT, check=True)
    found = json.loads((tmp_path / "gpu_proof.json").read_text())
    assert not any(part["stopped"] for part in found["parts"].values())
    refused = [r for part in found["parts"].values() for r in part["records"] if r.get("refused")]
    assert all(record["case"] == {"part": "processes"} for record in refused), refused
    page = (tmp_path / "gpu.md").read_text()
    assert gpu_page.NOT_YET not in page and "Tiny shapes" in page


def test_a_part_that_fails_or_hangs_ends_with_a_reason():
    assert gpu_proof.run([PYTHON, "-c", "pass"], 60) == ""
    assert gpu_proof.run([PYTHON, "-c", "raise SystemExit(3)"], 60) == "exit code 3"
    assert gpu_proof.run([PYTHON, "-c", "import time; time.sleep(60)"], 0.2) == "stopped after 0 s"
    assert gpu_proof.run([PYTHON, "-c", "pass"], -1) == "no time was left"


def test_a_record_that_fails_leaves_those_before_it_and_its_reason(monkeypatch):
    def some(quick):
        yield {"case": {"shape": "res4"}}
        raise RuntimeError("CUDA error\nand more lines")

    monkeypatch.setitem(gpu_proof.PARTS, "blocks", gpu_proof.Part(some, 1))
    first, last = gpu_proof.records("blocks", quick=True)
    assert first == {"case": {"shape": "res4"}}
    assert last["refused"] == {"the rest": "RuntimeError: CUDA error"}


def test_the_kept_page_is_of_the_kept_results():
    kept = json.loads(gpu_proof.RESULTS.read_text()) if gpu_proof.RESULTS.exists() else {}
    assert gpu_proof.PAGE.read_text() == gpu_page.page(kept)


def test_the_page_says_what_was_skipped():
    refused = {"case": {"part": "processes"}, "refused": {"the rest": "one GPU"}}
    failed = {"case": {"tests": "tests"}, "unsuccessful": ["test_block.test_it"]}
    parts = {
        "tests": {"records": [failed], "stopped": ""},
        "relay": {"records": [], "stopped": "stopped after 150 s"},
        "processes": {"records": [refused], "stopped": ""},
    }
    assert list(gpu_page.skipped(parts)) == [
        "- relay: stopped after 150 s",
        "- tests: test_block.test_it failed",
        "- processes, the rest: one GPU",
    ]
