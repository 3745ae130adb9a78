"""Measurements of dense against fused sums become rules, and rules become code."""

import importlib.util
import subprocess
import sys

import pytest
import torch

from benchmarks import fused_attention
from benchmarks.fused_attention import CHOICE, as_code, rules_from, with_rules
from nl_detectron.layers.choice import HALF, RULES, SINGLE

INF = float("inf")


def measured(channels, precision, ratios, images=1):
    """Times of dense over those of fused at 2^10, 2^12, ... pairs an image."""
    for power, ratio in zip(range(10, 99, 2), ratios, strict=False):
        sizes = {"images": images, "n": 2**power, "m": 1, "channels": channels}
        yield {
            "case": {**sizes, "mode": f"train, {precision}"},
            "ratio": {"sdpa": {"median": ratio}},
        }


MEASURED = [
    *measured(64, "fp16", [2.0, 1.3, 1.2, 1.1]),
    *measured(128, "fp16", [2.0, 1.3, 1.2, 1.02]),
    *measured(512, "fp16", [1.3, 1.4, 0.7, 1.2]),  # nothing beyond the first that is slower
    *measured(512, "bf16", [1.3, 0.9, 0.9, 1.2]),  # the median of both half precisions counts
    *measured(512, "bf16", [1.5, 1.2], images=16),  # and of all batches
    *measured(64, "fp32", [0.8, 0.7, 0.6, 0.5]),
    {"case": {"mode": "train, fp32"}, "refused": {"tiled": "out of memory"}},
]
RULES_OF_IT = [
    (128, HALF, INF, "fused is 1.02 times as fast at 65,536 pairs, the most measured, of 128"),
    (
        INF,
        HALF,
        2**12,
        "fused is 1.20 times as fast at 4,096 and dense is 1.25 times as fast at 16,384 pairs of",
    ),
    (INF, SINGLE, 0, "dense is 1.25 times as fast at 1,024 pairs, the fewest measured, of 64"),
]


def test_a_sum_is_fused_up_to_where_it_is_always_faster():
    rules = rules_from(MEASURED, "a card, torch 2.14")
    for rule, (*expected, reason) in zip(rules, RULES_OF_IT, strict=True):
        assert list(rule[:3]) == expected
        assert rule.reason.startswith(reason) and rule.reason.endswith("(a card, torch 2.14)")


def test_a_dtype_without_measurements_is_an_error():
    with pytest.raises(ValueError, match="fp32"):
        rules_from([r for r in MEASURED if "fp32" not in r["case"]["mode"]], "a card")


@pytest.mark.parametrize("rules", [RULES, rules_from(MEASURED, "a card, torch 2.14")])
def test_the_written_file_has_the_rules(rules, tmp_path):
    path = tmp_path / "choice.py"
    path.write_text(with_rules(CHOICE.read_text(), rules))
    spec = importlib.util.spec_from_file_location("written_choice", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert [tuple(rule) for rule in module.RULES] == [tuple(rule) for rule in rules]
    assert with_rules(path.read_text(), RULES) == CHOICE.read_text()
    style = [sys.executable, "-m", "ruff", "format", "--check", "--line-length", "100"]
    subprocess.run([*style, path], check=True)


def test_a_file_without_markers_is_left_alone():
    with pytest.raises(ValueError, match="begin: rules"):
        with_rules("RULES = ()", RULES)


def test_both_sums_are_measured_in_every_precision():
    records = list(fused_attention.records(quick=True))
    assert all("ratio" in record for record in records)
    assert as_code(rules_from(records, "this machine")).count("Rule(") >= 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_gpu_nothing_is_measured(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["fused_attention", "--write"])
    with pytest.raises(SystemExit):
        fused_attention.main()
    assert "expected a CUDA device" in capsys.readouterr().err
