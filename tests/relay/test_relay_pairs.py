"""Several objects in an image: where they and their signals lie, and their colours."""

import itertools
import math

import numpy as np
import pytest
from relay_variants import MORE_IDS, PAIRS, pictures


@pytest.mark.slow
@pytest.mark.parametrize("relay", PAIRS.values(), ids=MORE_IDS[-2:])
def test_pairs_are_at_opposite_ends_in_every_order_and_apart(relay):
    orders = set()
    for _, annotations in pictures(relay, 400):
        assert len(annotations) == relay.pairs
        objects, signals = (np.array([a[key] for a in annotations]) for key in ("bbox", "signal"))
        left = objects[:, 0] + objects[:, 2] / 2 < relay.width / 2
        assert left.all() or not left.any()
        assert ((signals[:, 0] + relay.signal / 2 < relay.width / 2) != left).all()
        for boxes in (objects, signals):
            low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
            assert (low >= 0).all() and (high <= [relay.width, relay.height]).all()
            for one, other in itertools.combinations(range(relay.pairs), 2):
                assert ((high[one] <= low[other]) | (high[other] <= low[one])).any()
        order = [cell_of(box, relay) for box in signals]
        orders.add(tuple(order))
    assert len(orders) == math.factorial(relay.pairs)


def cell_of(box, relay):
    """Column and row, of two each, in the square at the box's end of the image."""
    centre = box[:2] + box[2:] / 2
    if centre[0] > relay.width / 2:
        centre[0] -= relay.width - relay.height
    return tuple((centre // (relay.height / 2)).astype(int).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("relay", PAIRS.values(), ids=MORE_IDS[-2:])
def test_colours_of_pairs_are_independent(relay):
    labels = np.array([[a["category_id"] for a in found] for _, found in pictures(relay, 400)])
    same = (labels[:, 0] == labels[:, 1]).mean()
    assert same == pytest.approx(1 / 3, abs=3 * math.sqrt(2 / 9 / 400))
