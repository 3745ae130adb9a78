"""`make gpu-proof` at a tiny size: all parts run, and the page shows what they found."""

import sys
from pathlib import Path

import pytest

from benchmarks import gpu_page, gpu_proof
from benchmarks.tables import NOTHING
from benchmarks.timing import spread

ROOT = Path(__file__).parents[1]
PYTHON = sys.executable


# Registers data sets and sets loggers up, or ends at once.
IN_PROCESSES = ("relay", "processes")


@pytest.mark.slow
def test_all_parts_run_at_a_tiny_size(tmp_path, monkeypatch):
    """Most in this process, since each import of torch takes seconds."""
    start = gpu_proof.run

    def run(command, limit) -> str:
        name, *words = command[command.index("benchmarks.gpu_proof") :]
        if words[words.index("--part") + 1] in IN_PROCESSES:
            return start(command, limit)
        monkeypatch.setattr(sys, "argv", [name, *map(str, words)])
        gpu_proof.main()
        return ""

    monkeypatch.setattr(gpu_proof, "run", run)
    monkeypatch.setattr(sys, "argv", ["gpu_proof", "--quick", "--output", str(tmp_path)])
    gpu_proof.main()
    (found,) = gpu_proof.load(tmp_path)
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
    assert gpu_proof.PAGE.read_text() == gpu_page.page(gpu_proof.load(gpu_proof.RESULTS))


def test_a_page_has_a_section_for_each_card():
    machine = {"cpu": "a CPU", "threads": 2, "cores": 2, "python": "3.12"}
    rest = {"parts": {}, "quick": False, "took_seconds": 1.0}
    results = [{"machine": {**machine, "device": card}, **rest} for card in ("A100", "H100")]
    lines = gpu_page.page(results).splitlines()
    assert [line for line in lines if line.startswith("## ")] == ["## A100", "## H100"]
    assert "## No card yet" in gpu_page.page([]).splitlines()


def test_a_first_call_is_not_shown_as_a_later_one():
    seconds = {way: spread([0.02]) for way in ("tiled", "sdpa")}
    record = {"first_seconds": seconds, "seconds": {**seconds, "sdpa": spread([0.01, 0.01])}}
    shown = [read(record) for read in gpu_page.CHANGING.values()]
    assert shown[1] == NOTHING and NOTHING not in (shown[0], *shown[2:])


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
