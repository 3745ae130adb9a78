"""Accuracy and mean average precision of scores of videos.

Axes: N videos, K classes.
"""

from collections.abc import Sequence

import numpy as np


def accuracy(scores: np.ndarray, labels: Sequence[int], top: int = 1) -> float:
    """Percentage of videos whose label is among the ``top`` classes with the highest scores.

    Of classes with equal scores the first one counts as higher.

    Args:
        scores: (N,K).
        labels: N numbers of classes.
    """
    order = np.argsort(-scores, axis=1, kind="stable")[:, :top]
    return 100.0 * float((order == np.asarray(labels)[:, None]).any(axis=1).mean())


def average_precision(scores: np.ndarray, positive: np.ndarray) -> float:
    """Area under the curve of precision over recall as a sum over steps, as of scikit-learn's
    ``average_precision_score`` and of Charades' own evaluation.

    Videos with equal scores are one step.

    Args:
        scores: (N,) of one class.
        positive: (N,) booleans, of which at least one is true.
    """
    order = np.argsort(-scores, kind="stable")
    hits = positive[order].cumsum()
    last = np.append(np.diff(scores[order]) != 0, True)  # of the videos with the same score
    precision, recall = hits[last] / (np.flatnonzero(last) + 1), hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * precision).sum())


def mean_average_precision(
    scores: np.ndarray, labels: Sequence[Sequence[int]]
) -> tuple[float, int]:
    """Mean over classes of :func:`average_precision`, in percent, and the number of these classes:
    those that any video has.

    Args:
        scores: (N,K).
        labels: for each video the numbers of its classes.
    """
    positive = np.zeros(scores.shape, dtype=bool)
    for row, of_video in zip(positive, labels, strict=True):
        row[list(of_video)] = True
    present = np.flatnonzero(positive.any(axis=0))
    if not len(present):
        return float("nan"), 0
    values = [average_precision(scores[:, k], positive[:, k]) for k in present]
    return 100.0 * float(np.mean(values)), len(present)
