"""The report of the benchmarks, made from their results."""

import json
from pathlib import Path

import pytest

from benchmarks.report import write


def spread_of(value):
    return {"median": value, "q1": value * 0.9, "q3": value * 1.1}


MACHINE = {"device": "CPU", "cpu": "Abacus", "cores": 2, "threads": 2, "torch": "2.9"}
SUM = {"shape": "res4", "pooled": True, "form": "gaussian", "mode": "train"}
MADE_UP = {
    "op": [
        {
            "case": SUM,
            "seconds": {"dense": spread_of(0.05), "forward": spread_of(0.02)},
            "ratio": {"forward": spread_of(2.5)},
            "peak_bytes": {"dense": 3e9, "forward": 2e6},
            "takes": "fused",
        }
    ],
    "block": [
        {
            "case": SUM,
            "refused": {"mmcv": "RuntimeError: no"},
            "seconds": {"after": spread_of(2.0), "before": spread_of(1.0)},
            "peak_bytes": {"after": 1e6, "before": 1e6},
        }
    ],
    "limit": [
        {
            "case": SUM,
            "seconds": {"forward": spread_of(0.02)},
            "share": {"forward": spread_of(0.5), "dense": spread_of(0.4)},
            "macs": {"takes": "fused", "dense": 6, "forward": 6, "done": 7},
        }
    ],
    "growth": [
        {
            "case": {"form": "gaussian", "way": way, "positions": n},
            "seconds": spread_of(n**2 / 1e6),
            "peak_bytes": 100 * n,
        }
        for n in (100, 200, 400)
        for way in ("forward", "dense")
    ],
    "models": [
        {
            "case": {
                "model": "Mask R-CNN",
                "mode": "train",
                "height": 8,
                "width": 9,
                "weights": "random",
            },
            "seconds": {"nonlocal": spread_of(1.1), "baseline": spread_of(1.0)},
            "ratio": {"baseline": {"median": 1.1, "q1": 1.09, "q3": 1.12}},
            "peak_bytes": {"nonlocal": 3e6, "baseline": 2e6},
        }
    ],
    "evaluation": [
        {
            "case": {"task": "bbox", "images": 5000, "classes": 80, "detections": 100},
            "seconds": {"pycocotools": 60.0, "faster-coco-eval": 4.0},
            "ratio": 15.0,
            "difference": 2e-16,
            "versions": {"pycocotools": "2", "faster-coco-eval": "1"},
        }
    ],
}


def test_a_report_is_made_from_the_results_alone(tmp_path):
    for name, records in MADE_UP.items():
        result = {"quick": True, "machine": MACHINE, "took_seconds": 3, "records": records}
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    text = write(tmp_path, tmp_path).read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    time, memory = ["50.0 (45.0 to 55.0) ms", "20.0 (18.0 to 22.0) ms"], ["3.00 GB", "2.0 MB"]
    name = "res4, pooled, gaussian"
    assert [name, *time, "2.50 (2.25 to 2.75)", *memory, "fused"] in rows
    assert f"- RuntimeError: no: mmcv {name}, train" in text
    assert [row[-1] for row in rows if row[:1] == ["gaussian, dense"]] == [
        "2.00",
        "1.00",
    ]  # exponents
    assert any("+10 % (+9 % to +12 %)" in row and "+50 %" in row for row in rows)
    case = "bbox, 5,000 images, 80 classes, 100 per image"
    assert [case, "60.0 s", "4.0 s", "15.0", "2e-16"] in rows
    assert "Abacus, 2 threads of 2 cores; torch 2.9" in text and "Tiny shapes" in text
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_a_report_leaves_out_what_was_not_run(tmp_path):
    text = write(tmp_path, tmp_path).read_text()
    assert "##" not in text and not (tmp_path / "growth.png").exists()


ROOT = Path(__file__).parent.parent


@pytest.mark.slow
def test_the_readmes_figures_are_of_the_kept_results(tmp_path):
    kept = ROOT / "benchmarks" / "README.md"
    (tmp_path / "README.md").write_text(kept.read_text())
    write(ROOT / "benchmarks" / "results", tmp_path)
    assert (tmp_path / "README.md").read_text() == kept.read_text()
    assert (tmp_path / "results.md").read_text() == kept.with_name("results.md").read_text()
