"""Colours of detections in one frame and the next."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from nl_detectron.prediction.colours import InstanceColours


def things(*boxes, kinds=None) -> Instances:
    kinds = torch.tensor(kinds or [0] * len(boxes), dtype=torch.long)
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float).reshape(-1, 4))
    return Instances((100, 100), pred_boxes=boxes, pred_classes=kinds)


def test_a_thing_keeps_its_colour_and_others_have_other_ones():
    a, b, c = (0, 0, 40, 40), (50, 50, 90, 90), (50, 0, 90, 40)
    moved = (2, 1, 42, 41)
    colours = InstanceColours([(200, 0, 0), (0, 200, 0)])
    of_a, of_b = colours.assign(things(a, b))
    assert not np.allclose(of_a, of_b)
    then = colours.assign(things(b, c, moved))
    assert np.array_equal(then[0], of_b) and np.array_equal(then[2], of_a)
    assert not any(np.allclose(then[1], other) for other in (of_a, of_b))
    assert colours.assign(things()) == []
    assert np.array_equal(colours.assign(things(b))[0], of_a)  # nobody has it any more
    reds, greens = colours.assign(things(a, a, kinds=[0, 1]))
    assert reds.argmax() == 0 and greens.argmax() == 1
