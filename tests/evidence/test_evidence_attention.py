"""Shares on the signal and classes without it: of made-up maps, of a tiny model, in the page."""

import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from benchmarks.evidence import attention
from benchmarks.evidence.report import ATTENTION_PAGE, attention_parts, render
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.relay import Relay

PAIRS = Relay(pairs=4, height=96, width=256, signal=24, train=0, val=2)


def test_the_page_in_docs_is_of_the_results_kept_here():
    page = ATTENTION_PAGE.read_text()
    assert render(page, attention_parts()) == page, "run make evidence-report"


def test_as_many_other_positions_are_left_out():
    left_out = np.array([[True, False, False], [True, False, False]])
    chosen = attention._choose_others(left_out, random.Random(0))
    assert chosen.sum() == 2 and not (chosen & left_out).any()
    assert attention._choose_others(~left_out, random.Random(0)) is None


@pytest.mark.parametrize(
    ("boxes", "classes", "right"),
    [
        ([[0, 0, 10, 10], [0, 0, 10, 10]], [1, 0], 1.0),  # the higher score counts
        ([[0, 0, 10, 10], [0, 0, 10, 10]], [0, 1], 0.0),
        ([[50, 50, 60, 60], [0, 0, 10, 9]], [0, 1], 1.0),  # elsewhere does not
        ([[50, 50, 60, 60]], [1], 0.0),
        ([], [], 0.0),
    ],
)
def test_a_class_is_right_where_the_highest_scored_detection_of_the_object_has_it(
    boxes, classes, right
):
    found = Instances((99, 99), pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4).float()))
    found.pred_classes = torch.tensor(classes, dtype=torch.int64)
    annotation = {"bbox": [0, 0, 10, 10], "category_id": 2}
    assert attention._is_right(SimpleNamespace(instances=found), annotation) == right


def test_who_names_one_class_always_has_a_third_whatever_their_numbers():
    assert attention.average_over_classes([(1, 1.0)] * 8 + [(2, 0.0), (3, 0.0)]) == pytest.approx(
        1 / 3, abs=1e-4
    )


@pytest.mark.slow
def test_a_tiny_model_is_measured_and_drawn(tiny, monkeypatch):
    monkeypatch.setattr(attention, "IMAGES", 8)
    model = build_model(tiny("pairs_embedded_gaussian").config(1))
    [block] = find_blocks(model).values()
    torch.nn.init.zeros_(block.theta.weight)  # scores are equal, and weights even
    found = attention.measure(model, PAIRS.height, PAIRS)
    assert found["objects"] == 2 * PAIRS.pairs
    assert found["weights on signal"]["mean"] == pytest.approx(found["area"]["mean"], abs=2e-4)
    for margin in attention.MARGINS:
        assert 0 <= found[f"right without signal, margin {margin}"]["mean"] <= 1
    assert "right without others, margin 0" in found
    shares, without = (text for _, text in attention.tables({"demo": found}))
    assert "| demo" in shares and without.count("| demo") == 2
    figure = attention.picture(model, PAIRS.height, PAIRS)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 2 * attention.ROWS and titles[0].split("\n")[0] in PAIRS.classes
