"""The order of training images, and the same order continued from any batch."""

import random
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.data import build_detection_train_loader
from detectron2.data.samplers import (
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from fast_part import combinations
from torch.utils.data import IterableDataset

from nl_detectron.engine.random_states import (
    get_random_states,
    seed_random_states,
    set_random_states,
)
from nl_detectron.engine.train_loader import TrainLoader, make_resumable, plan_batches

RECORDS = [{"image_id": i, "width": 20 if i % 3 else 5, "height": 10} for i in range(11)]
SAMPLERS = {
    "training": lambda: TrainingSampler(11, seed=3),
    "subset": lambda: RandomSubsetTrainingSampler(11, 0.7, seed_shuffle=3, seed_subset=4),
    "repeat": lambda: RepeatFactorTrainingSampler(torch.linspace(1, 2.4, 11), seed=3),
}


def augment(record: dict) -> dict:
    """A mapper that draws random numbers of every kind."""
    drawn = (float(np.random.uniform()), float(torch.rand(())))
    return {**record, "drawn": drawn}


def detectron2_loader(sampler, workers=0, grouped=True, **options):
    return build_detection_train_loader(
        RECORDS,
        mapper=augment,
        sampler=sampler,
        total_batch_size=2,
        aspect_ratio_grouping=grouped,
        num_workers=workers,
        **options,
    )


def take(loader, number) -> list:
    return list(islice(iter(loader), number))


def identities(batches) -> list[list[int]]:
    return [[sample["image_id"] for sample in batch] for batch in batches]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("name", SAMPLERS)
def test_a_fresh_run_has_the_images_and_random_numbers_of_detectron2(name, grouped):
    found = []
    for wrap in (iter, make_resumable):
        np.random.seed(1)
        torch.manual_seed(1)
        loader = detectron2_loader(SAMPLERS[name](), grouped=grouped)
        found.append(take(loader if wrap is iter else wrap(loader), 20))
        found[-1].append(float(torch.rand(())))
    if grouped:  # here images are loaded batch by batch, there in the order of the sampler
        found = [identities(batches[:-1]) for batches in found]
    assert found[0] == found[1]


@combinations(name=SAMPLERS, grouped=[False, True], workers=[0, 2])
def test_a_resumed_loader_continues_batches_and_random_numbers(name, grouped, workers):
    whole = make_resumable(detectron2_loader(SAMPLERS[name](), workers, grouped))
    batches = iter(whole)
    list(islice(batches, 5))
    place, states = whole.state_dict(), get_random_states()
    expected = list(islice(batches, 8))
    sampler = SAMPLERS[name]()
    sampler._seed = sampler._seed_subset = 99  # as without a SEED, when each run draws its own
    resumed = make_resumable(detectron2_loader(sampler, workers, grouped))
    resumed.load_state_dict(place)
    set_random_states(states)
    assert take(resumed, 8) == expected
    assert place["images"] == 10 and resumed.batches == 13


@pytest.mark.slow
def test_batches_do_not_depend_on_the_number_of_workers():
    found = []
    for workers in (1, 2):
        loader = make_resumable(detectron2_loader(SAMPLERS["training"](), workers))
        found.append(take(loader, 9))
    own = TrainLoader.load_state_dict  # without workers, a resumed run draws as the workers did
    loader = make_resumable(detectron2_loader(SAMPLERS["training"](), 0))
    own(loader, {"images": 0, "seed": 3, "sampler": {}})
    before = torch.get_rng_state()
    found.append(take(loader, 9))
    assert found[0] == found[1] == found[2]
    torch.set_rng_state(before)


def test_a_run_without_workers_says_that_workers_draw_other_numbers(caplog):
    state = make_resumable(detectron2_loader(SAMPLERS["training"]())).state_dict()
    make_resumable(detectron2_loader(SAMPLERS["training"](), 2)).load_state_dict(state)
    assert "augmentation draws other random numbers" in caplog.text


@pytest.mark.parametrize("name", SAMPLERS)
def test_processes_share_one_order(name):
    def plan(rank, world, group=None):
        sampler = SAMPLERS[name]()
        sampler._rank, sampler._world_size = rank, world
        return list(islice(plan_batches(sampler, 4 // world, group), 30))

    alone, shared = plan(0, 1), [plan(rank, 2) for rank in range(2)]
    for batch, first, second in zip(alone, *shared, strict=True):
        assert sorted(batch, key=lambda pair: pair[1]) == sorted(first + second, key=lambda p: p[1])
    for rank in range(2):  # of the same group, and each image once
        grouped = plan(rank, 2, group=lambda index: index % 3 == 0)
        assert all(len({index % 3 == 0 for index, _ in batch}) == 1 for batch in grouped)
        positions = [position for batch in grouped for _, position in batch]
        assert len(set(positions)) == len(positions)
        assert all(position % 2 == rank for position in positions)


def test_other_loaders_are_left_as_they_are():
    class Stream(IterableDataset):
        def __iter__(self):
            yield from RECORDS

    stream = build_detection_train_loader(
        Stream(), mapper=augment, total_batch_size=2, aspect_ratio_grouping=False
    )
    assert make_resumable(stream) is stream
    assert make_resumable([1, 2]) == [1, 2]


def test_a_loader_with_a_collate_function_keeps_it():
    for grouped in (False, True):
        loader = detectron2_loader(SAMPLERS["training"](), grouped=grouped, collate_fn=tuple)
        assert isinstance(make_resumable(loader), TrainLoader)
        assert all(isinstance(batch, tuple) for batch in take(make_resumable(loader), 3))


def test_a_seed_decides_random_numbers_and_leaves_the_states_alone():
    def draw():
        return random.random(), np.random.uniform(), float(torch.rand(()))

    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    states = get_random_states()
    expected = draw()
    set_random_states(states)
    drawn = []
    for key in ((1, 2), (1, 3), (1, 2), (-1, 2)):
        with seed_random_states(*key):
            drawn.append(draw())
    assert drawn[0] == drawn[2] and len(set(drawn)) == 3
    assert draw() == expected
