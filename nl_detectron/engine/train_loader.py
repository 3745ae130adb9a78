"""Training batches that can start at any batch of their order without loading those before it."""

import logging
import operator
from collections.abc import Callable, Iterable, Iterator
from itertools import count, islice
from typing import Any, cast

import torch
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import (
    AspectRatioGroupedDataset,
    MapDataset,
    ToIterableDataset,
    _MapIterableDataset,
)
from detectron2.data.samplers import RandomSubsetTrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..data.bad_samples import CheckedLoader
from .random_states import seed_random_states
from .workers import ProtectedLoader

logger = logging.getLogger(__name__)
SEEDS = ("_seed", "_seed_subset")  # attributes of Detectron2's samplers


def plan_batches(
    sampler: Iterable[int], batch_size: int, group: Callable[[int], Any] | None = None
) -> Iterator[list[tuple[int, int]]]:
    """Yield the batches of one process as lists of (index, position).

    Args:
        sampler: yields indices of the data set: every n-th of an order that n processes share.
        batch_size: number of images in a batch.
        group: returns the group of an index; a batch holds images of one group. By default all
            images are of the same group.

    The position is that in the order which the processes share. As in Detectron2, a group's images
    that do not fill a batch wait for the next ones.
    """
    rank = getattr(sampler, "_rank", comm.get_rank())
    world = getattr(sampler, "_world_size", comm.get_world_size())
    waiting: dict[Any, list[tuple[int, int]]] = {}
    for index, position in zip(sampler, count(rank, world), strict=False):
        key = group(index) if group else None
        batch = waiting.setdefault(key, [])
        batch.append((index, position))
        if len(batch) == batch_size:
            yield waiting.pop(key)


class SeededSamples(Dataset):
    """Loads (index, position) pairs of :func:`plan_batches` from a map-style data set.

    With a seed, the random numbers of a sample's augmentation depend on the seed and its position
    only. With None they continue this process's random states.
    """

    def __init__(self, dataset: Dataset, seed: int | None):
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, pair: tuple[int, int]) -> Any:
        index, position = pair
        if self.seed is None:
            return self.dataset[index]
        with seed_random_states(self.seed, position):
            return self.dataset[index]


class TrainLoader:
    """Yields the batches of a loader of Detectron2's ``build_detection_train_loader``, from any
    batch on. Use :func:`make_resumable` to make one.

    The images are those of Detectron2's loader without workers, however many workers there are.
    Without workers, augmentation draws its random numbers from the process's own random states, as
    Detectron2's does. With workers, they depend on the sampler's seed and the position of an image.
    Where the sampler has no seed, all processes agree on one.

    ``batches`` is the number of batches that were yielded or skipped.
    """

    def __init__(
        self,
        loader: DataLoader,
        batch_size: int,
        collate: Callable[[list], Any],
        group: Callable[[int], Any] | None,
    ):
        source = cast(ToIterableDataset, loader.dataset)
        self.sampler, self.dataset, self.loader = source.sampler, source.dataset, loader
        self.batch_size, self.collate, self.group = batch_size, collate, group
        self.batches, self.seed = 0, None
        if loader.num_workers:
            seed = getattr(self.sampler, "_seed", None)
            self.seed = comm.shared_random_seed() if seed is None else int(seed)

    def __iter__(self) -> Iterator[Any]:
        plan = islice(plan_batches(self.sampler, self.batch_size, self.group), self.batches, None)
        if self.group:  # workers load single images, as in Detectron2: the first batch comes sooner
            loader = self._load(
                ([pair] for batch in plan for pair in batch), operator.itemgetter(0)
            )
            alike = zip(*[iter(loader)] * self.batch_size, strict=False)
            loaded = (self.collate(list(batch)) for batch in alike)
        else:
            loaded = self._load(plan, self.collate)
        for batch in loaded:
            self.batches += 1
            yield batch

    def _load(self, plan: Iterator[list[tuple[int, int]]], collate: Callable) -> Iterable:
        like = self.loader
        # A DataLoader draws from its generator, or from PyTorch's. The first one of a run has done
        # so, and a resumed run must not do it again.
        generator = torch.Generator() if self.batches else like.generator
        loader = DataLoader(
            SeededSamples(self.dataset, self.seed),
            batch_sampler=plan,
            num_workers=like.num_workers,
            collate_fn=collate,
            pin_memory=like.pin_memory,
            timeout=like.timeout,
            worker_init_fn=like.worker_init_fn,
            multiprocessing_context=like.multiprocessing_context,
            generator=generator,
            prefetch_factor=like.prefetch_factor,
            persistent_workers=like.persistent_workers,
        )
        return ProtectedLoader(loader)

    def state_dict(self) -> dict[str, Any]:
        """The place in the data: the number of images taken by all processes together, the seed of
        augmentation and the sampler's seeds."""
        images = self.batches * self.batch_size * comm.get_world_size()
        seeds = {name: getattr(self.sampler, name) for name in SEEDS if hasattr(self.sampler, name)}
        return {"images": images, "seed": self.seed, "sampler": seeds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a place in the data, which must be set before the first batch is taken."""
        self.batches = state["images"] // (self.batch_size * comm.get_world_size())
        if state["seed"] is None and self.seed is not None:
            logger.warning(
                "The checkpoint is of a run without data loader workers. With workers, the images "
                "continue in the same order, but augmentation draws other random numbers."
            )
        else:
            self.seed = state["seed"]
        for name, seed in state["sampler"].items():
            setattr(self.sampler, name, seed)
        if isinstance(self.sampler, RandomSubsetTrainingSampler):
            _choose_subset(self.sampler)


def make_resumable(loader: Iterable) -> Iterable:
    """Return a :class:`TrainLoader` of a loader of Detectron2's ``build_detection_train_loader``.

    Any other loader is returned as it is, as are those of an iterable data set, and of one whose
    images are grouped by aspect ratio but have no "width" and "height".
    """
    if isinstance(loader, CheckedLoader):
        loader.loader = make_resumable(loader.loader)
        return loader
    grouped, collate = loader, trivial_batch_collator
    if isinstance(loader, _MapIterableDataset):
        grouped, collate = loader._dataset, loader._map_func
    single = grouped.dataset if isinstance(grouped, AspectRatioGroupedDataset) else loader
    if not isinstance(single, DataLoader) or not isinstance(single.dataset, ToIterableDataset):
        return loader
    if single is loader:
        return TrainLoader(single, single.batch_size or 1, single.collate_fn, None)
    mapped = single.dataset.dataset
    records = mapped._dataset if isinstance(mapped, MapDataset) else mapped
    if not {"width", "height"} <= set(records[0]):
        return loader
    return TrainLoader(single, cast(Any, grouped).batch_size, collate, AspectRatio(records))


class AspectRatio:
    """The group of an image by Detectron2's ``AspectRatioGroupedDataset``: whether it is wide."""

    def __init__(self, records: Any):
        self.records, self.known = records, {}

    def __call__(self, index: int) -> bool:
        if index not in self.known:  # reading a record takes longer than a look into a dict
            record = self.records[index]
            self.known[index] = record["width"] > record["height"]
        return self.known[index]


def _choose_subset(sampler: RandomSubsetTrainingSampler) -> None:
    """Draw the subset of the sampler's seed, as its ``__init__`` does."""
    generator = torch.Generator()
    generator.manual_seed(sampler._seed_subset)
    chosen = torch.randperm(sampler._size, generator=generator)
    sampler._indexes_subset = chosen[: sampler._size_subset]
