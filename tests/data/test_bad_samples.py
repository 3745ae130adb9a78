"""Samples that cannot be read: replaced without a change of all others, counted, and named."""

import random

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import TrainingSampler

from nl_detectron.data.bad_samples import CheckedLoader, ReplacingMapper
from nl_detectron.errors import UsageError

# every third image is upright
RECORDS = [
    {"file_name": f"{i}.png", "image_id": i, "width": 9 if i % 3 else 4, "height": 6}
    for i in range(12)
]
BAD = {4, 5, 9}


class Mapper:
    """Draws as many random numbers for each record; may be pickled for a worker."""

    def __init__(self, bad=()):
        self.bad = bad

    def __call__(self, record):
        if record["image_id"] in self.bad:
            raise OSError("image file is truncated\n(3 bytes)")
        drawn = np.random.random(), random.random(), torch.rand(()).item()
        return {**record, "drawn": drawn}


def load(mapper, limit, workers=0, batches=10):
    """File names and random numbers of the first batches, and the loader."""
    for seed in (np.random.seed, random.seed, torch.manual_seed):
        seed(0)
    mapper = ReplacingMapper(mapper, RECORDS, limit)
    sampler = TrainingSampler(len(RECORDS), seed=0)
    loader = build_detection_train_loader(
        RECORDS, mapper=mapper, sampler=sampler, total_batch_size=2, num_workers=workers
    )
    checked = CheckedLoader(loader, limit, "DATALOADER.MAX_BAD_SAMPLES")
    batches = [batch for batch, _ in zip(checked, range(batches), strict=False)]
    return [[(s["file_name"], s["drawn"]) for s in batch] for batch in batches], checked


def test_a_bad_sample_is_replaced_and_no_other_changes():
    sound, loader = load(Mapper(), 0)
    assert loader.bad_samples == 0
    replaced, loader = load(Mapper(BAD), 20)
    expected = {"4.png": "7.png", "5.png": "7.png", "9.png": "0.png"}
    pairs = [
        pair for batches in zip(sound, replaced, strict=True) for pair in zip(*batches, strict=True)
    ]
    assert all(ours == (expected.get(name, name), drawn) for (name, drawn), ours in pairs)
    bad = sum(name in expected for (name, _), _ in pairs)
    assert 0 < bad < loader.bad_samples  # number 4 is followed by 5, which is bad too


@pytest.mark.parametrize("workers", [0, 1])
def test_one_message_names_the_file_where_none_is_allowed(workers):
    with pytest.raises(UsageError) as caught:
        load(Mapper({5}), 0, workers)
    message = str(caught.value)
    assert "image 5.png (id 5) cannot be used: OSError: image file is truncated" in message
    assert "DATALOADER.MAX_BAD_SAMPLES" in message and "\n" not in message


def test_the_limit_is_of_the_whole_run():
    with pytest.raises(UsageError, match="bad sample number 3"):
        load(Mapper({5}), 2, batches=50)


def test_an_image_that_nothing_can_replace_stops_the_run():
    with pytest.raises(UsageError, match="cannot be used"):
        load(Mapper(range(12)), 100)


def test_an_evaluation_stops_at_any_bad_sample():
    loader = CheckedLoader([[ReplacingMapper(Mapper({5}))(RECORDS[5])]])
    with pytest.raises(UsageError, match=r"5\.png \(id 5\)") as caught:
        list(loader)
    assert "MAX_BAD_SAMPLES" not in str(caught.value)
