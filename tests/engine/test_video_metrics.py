"""Accuracy and mean average precision, by hand and against scikit-learn."""

import numpy as np
import pytest

from nl_detectron.engine.video_metrics import (
    accuracy,
    average_precision,
    mean_average_precision,
)


def test_accuracy_by_hand():
    scores = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.1, 0.8, 0.1], [0.5, 0.4, 0.1]])
    labels = [0, 1, 2, 1]
    assert accuracy(scores, labels) == 25.0
    assert accuracy(scores, labels, top=2) == 50.0  # of 0.3 and 0.3 the first one counts
    assert accuracy(scores, labels, top=3) == 100.0


def test_average_precision_by_hand():
    # in order of scores: hit, miss, hit, miss: precision 1 at recall 1/2, 2/3 at recall 1
    scores, positive = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert average_precision(scores, positive) == pytest.approx((1 + 2 / 3) / 2)
    # all scores alike are one step, whatever their order
    for order in ([True, False], [False, True]):
        assert average_precision(np.array([0.5, 0.5]), np.array(order)) == 0.5


def test_map_is_over_classes_that_a_video_has():
    scores = np.array([[0.9, 0.1, 0.3], [0.2, 0.8, 0.2], [0.6, 0.7, 0.1]])
    # class 0: videos 0 (0.9) and 1 (0.2): (1 + 2/3) / 2; class 1: video 0 (0.1), last: 1/3
    value, classes = mean_average_precision(scores, [[0, 1], [0], []])
    assert value == pytest.approx(100 * ((1 + 2 / 3) / 2 + 1 / 3) / 2)
    assert classes == 2
    value, classes = mean_average_precision(scores, [[], [], []])
    assert np.isnan(value) and classes == 0


@pytest.mark.parametrize("levels", [3, 20, 10**6])
def test_average_precision_is_scikit_learns(levels):
    metrics = pytest.importorskip("sklearn.metrics", reason="needs scikit-learn")
    rng = np.random.default_rng(levels)
    for _ in range(50):
        count = int(rng.integers(2, 60))
        scores = rng.integers(0, levels, size=count) / levels
        positive = rng.random(count) < 0.3
        positive[rng.integers(count)] = True
        expected = metrics.average_precision_score(positive, scores)
        assert average_precision(scores, positive) == pytest.approx(expected, abs=1e-12)
    scores = rng.integers(0, levels, size=(40, 5)) / levels
    labels = [np.flatnonzero(rng.random(5) < 0.4).tolist() for _ in range(40)]
    positive = np.array([[k in of_video for k in range(5)] for of_video in labels])
    expected = metrics.average_precision_score(positive, scores, average="macro")
    assert mean_average_precision(scores, labels)[0] == pytest.approx(100 * expected)
