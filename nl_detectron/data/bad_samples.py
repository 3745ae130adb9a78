"""Samples that cannot be read: named, replaced within a limit, and counted.

A worker process cannot stop a run with one message, so it only marks what it could not read. The
main process counts the marks as it takes the batches.
"""

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from nl_detectron_cli.names import program_name

from ..errors import UsageError

MARK = "bad_samples"  # key of a sample: what was wrong with the records that it replaces

logger = logging.getLogger(__name__)


class ReplacingMapper:
    """Maps records as another mapper does; a record that it fails on is replaced by another one.

    The replacement is the next record of the data set with the same orientation, as Detectron2
    groups samples by it, and it draws the random numbers that the bad record would have drawn. So
    all other samples are those of a run without a bad record.

    Args:
        mapper: takes a record and returns a sample, or None to skip the record.
        records: the data set. It may be empty if ``limit`` is 0.
        limit: how many records in a row may fail. Beyond it the sample has the mark only, and
            :class:`CheckedLoader` stops at it.
    """

    def __init__(self, mapper: Callable, records: Sequence[dict] = (), limit: int = 0):
        self.mapper, self.records, self.limit = mapper, records, limit

    def __call__(self, record: dict) -> dict[str, Any] | None:
        state = _random_state()
        bad: list[str] = []
        for candidate in self._candidates(record):
            try:
                sample = self.mapper(candidate)
            except Exception as error:  # image formats raise their own, mappers anything
                bad.append(_describe(candidate, error))
                if len(bad) > self.limit:
                    break
                _set_random_state(state)
            else:
                if not bad:
                    return sample
                if sample is not None:
                    return {**sample, MARK: bad}
        return {"width": 1, "height": 1, **record, MARK: bad, "stop": True}

    def _candidates(self, record: dict) -> Iterator[dict]:
        yield record
        count = len(self.records)
        name = _name(record)
        start = next((i for i in range(count) if _name(self.records[i]) == name), 0)
        for step in range(1, count):
            other = self.records[(start + step) % count]
            if _is_wide(other) == _is_wide(record):
                yield other


class CheckedLoader:
    """A data loader that counts the bad samples of its batches and stops beyond a limit.

    Args:
        loader: yields lists of samples of a :class:`ReplacingMapper`.
        limit: how many bad samples are allowed in all.
        key: the config's key of the limit for the message, or "" if none can be allowed.

    Attributes:
        bad_samples: number of bad samples until now.
    """

    def __init__(self, loader: Iterable[list[dict]], limit: int = 0, key: str = ""):
        self.loader, self.limit, self.key, self.bad_samples = loader, limit, key, 0

    def __len__(self) -> int:
        return len(self.loader)  # pyright: ignore[reportArgumentType]

    def __iter__(self) -> Iterator[list[dict]]:
        for batch in self.loader:
            for sample in batch:
                self._check(sample)
            yield batch

    def _check(self, sample: dict) -> None:
        bad = sample.pop(MARK, ())
        self.bad_samples += len(bad)
        if sample.pop("stop", False) or self.bad_samples > self.limit:
            allowed = f", or set {self.key} to the number of samples to replace" if self.key else ""
            count = f" (bad sample number {self.bad_samples})" if self.limit else ""
            raise UsageError(
                f"{bad[-1]}{count}: repair it or remove it from the annotations{allowed}; "
                f"{program_name('check')} finds all such files"
            )
        for text in bad:
            logger.warning("%s: another one replaces it (%d)", text, self.bad_samples)


def _describe(record: dict, error: Exception) -> str:
    reason = " ".join(str(error).split())[:300]
    kind = "video" if "video_id" in record else "image"
    return (
        f"{kind} {record.get('file_name')} (id {record.get(f'{kind}_id')}) cannot be used: "
        f"{type(error).__name__}: {reason}"
    )


def _name(record: dict) -> tuple:
    return record.get("file_name"), record.get("image_id"), record.get("video_id")


def _is_wide(record: Mapping) -> bool:
    """Detectron2's AspectRatioGroupedDataset groups samples by this."""
    return record.get("width", 0) > record.get("height", 0)


def _random_state() -> tuple:
    return random.getstate(), np.random.get_state(), torch.get_rng_state()


def _set_random_state(state: tuple) -> None:
    random.setstate(state[0])
    np.random.set_state(state[1])
    torch.set_rng_state(state[2])
