"""The image that the page opens on."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances

from nl_detectron.attention import Attention, Grid
from nl_detectron.errors import UsageError
from nl_detectron.explorer import first_image
from nl_detectron.explorer.first_image import find_telling_image, looks_elsewhere

EVEN = [1 / 8] * 8
AT_ITSELF, AT_THE_OTHER_END = [1, *[0] * 7], [0] * 7 + [1]


def make_record(weights, score=0.9, found=1):
    """A record of an object at the left end of an image that is eight cells long."""
    boxes = Boxes(torch.tensor([[0.0, 0, 10, 10]] * found).reshape(-1, 4))
    scores = torch.full((found,), score)
    grid = Grid((0, 0), (10, 10), (1, 8))
    weights = np.array([weights], float)
    look = Attention("block", "form", grid, (5, 5), weights, np.ones_like(weights))
    return SimpleNamespace(
        image=np.zeros((10, 80, 3), np.uint8),
        instances=Instances((10, 80), pred_boxes=boxes, scores=scores),
        blocks=["block"],
        attention=lambda x, y, block: look,
    )


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (make_record(AT_THE_OTHER_END), True),
        (make_record(AT_ITSELF), False),
        (make_record(EVEN), False),
        (make_record(AT_THE_OTHER_END, score=0.3), False),
        (make_record(AT_THE_OTHER_END, found=0), False),
    ],
    ids=["elsewhere", "itself", "even", "unsure", "nothing"],
)
def test_an_object_looks_elsewhere(record, expected):
    assert looks_elsewhere(record) == expected


@pytest.fixture
def explorer():
    """An explorer whose images' names tell where their objects look."""
    seen = []

    def get_records(path):
        seen.append(path)
        if "broken" in path:
            raise UsageError("broken")
        return [make_record(AT_THE_OTHER_END if "telling" in path else EVEN)]

    return SimpleNamespace(get_records=get_records, seen=seen)


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["even", "telling 1", "telling 2"], "telling 1"),
        (["broken", "even", "telling"], "telling"),
        (["broken", "even 1", "even 2"], "even 1"),
        (["broken"], None),
        ([], None),
    ],
)
def test_the_first_telling_image_is_chosen_or_else_the_first_that_can_be_read(
    names, first, explorer
):
    found = find_telling_image(explorer, [Path(name) for name in names])
    assert found == (Path(first) if first else None)


def test_the_search_ends_after_some_images_or_seconds(explorer, monkeypatch):
    images = [Path(f"even {number}") for number in range(50)]
    find_telling_image(explorer, images)
    assert len(explorer.seen) == first_image.MAX_RECORDS
    explorer.seen.clear()
    monkeypatch.setattr(first_image, "SECONDS", -1)
    assert find_telling_image(explorer, images) == images[0] and len(explorer.seen) == 1
