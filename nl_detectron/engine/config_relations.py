"""What values of a YAML file's keys must be for each other."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ..errors import UsageError

Values = Mapping[str, Any]  # by full key; each alone is as config_checks.py expects
# What a sampler needs beyond Detectron2's config: a key that code has to add, and its values.
SAMPLER_KEYS = {
    "RandomSubsetTrainingSampler": "DATALOADER.RANDOM_SUBSET_RATIO",
    "WeightedTrainingSampler": "DATASETS.TRAIN_REPEAT_FACTOR",
    "WeightedCategoryTrainingSampler": "DATASETS.TRAIN_REPEAT_FACTOR",
}


class Relation(NamedTuple):
    """What the value of a key must be, if ``concerns`` holds."""

    key: str
    expected: str
    concerns: Callable[[Values], bool]
    holds: Callable[[Values], bool]


def _crop(*kinds: str) -> Callable[[Values], bool]:
    return lambda v: v["INPUT.CROP.ENABLED"] and v["INPUT.CROP.TYPE"] in kinds


def _sampler(*names: str) -> Callable[[Values], bool]:
    return lambda v: v["DATALOADER.SAMPLER_TRAIN"] in names


def _channels(values: Values) -> tuple[int, ...]:
    return (1, 3) if values["INPUT.FORMAT"] == "L" else (3,)


def _is_range(sizes: Any) -> bool:
    return not isinstance(sizes, list | tuple) or (len(sizes) == 2 and sizes[0] <= sizes[1])


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 < value <= 1


def _are_factors(pairs: Any, names: Any) -> bool:
    """Whether these are pairs of a training set and a number above 0."""
    return isinstance(pairs, list | tuple) and all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and pair[0] in names
        and isinstance(pair[1], int | float)
        and pair[1] > 0
        for pair in pairs
    )


def _evaluated(values: Values) -> set[str]:
    """Tasks that an evaluation may report."""
    if values["MODEL.META_ARCHITECTURE"] == "VideoClassifier":
        return {"video"}
    on = {"segm": "MODEL.MASK_ON", "keypoints": "MODEL.KEYPOINT_ON"}
    return {"bbox", "box_proposals", *(task for task, key in on.items() if values[key])}


RELATIONS = (
    Relation(
        "TEST.EXPECTED_RESULTS",
        "tasks that are evaluated: bbox, segm if MODEL.MASK_ON, keypoints if MODEL.KEYPOINT_ON "
        "(of a VideoClassifier: video)",
        lambda v: True,
        lambda v: {task for task, *_ in v["TEST.EXPECTED_RESULTS"]} <= _evaluated(v),
    ),
    Relation(
        "SOLVER.BASE_LR_END",
        "at most SOLVER.BASE_LR, as SOLVER.LR_SCHEDULER_NAME is WarmupCosineLR",
        lambda v: v["SOLVER.LR_SCHEDULER_NAME"] == "WarmupCosineLR",
        lambda v: v["SOLVER.BASE_LR_END"] <= v["SOLVER.BASE_LR"],
    ),
    Relation(
        "INPUT.MIN_SIZE_TRAIN",
        "two sizes, the smaller first, as INPUT.MIN_SIZE_TRAIN_SAMPLING is range",
        lambda v: v["INPUT.MIN_SIZE_TRAIN_SAMPLING"] == "range",
        lambda v: _is_range(v["INPUT.MIN_SIZE_TRAIN"]),
    ),
    Relation(
        "INPUT.CROP.SIZE",
        "shares of the height and the width, of at most 1, as INPUT.CROP.TYPE is relative",
        _crop("relative", "relative_range"),
        lambda v: max(v["INPUT.CROP.SIZE"]) <= 1,
    ),
    Relation(
        "INPUT.CROP.SIZE",
        "two integers of pixels, as INPUT.CROP.TYPE is absolute",
        _crop("absolute", "absolute_range"),
        lambda v: all(isinstance(side, int) for side in v["INPUT.CROP.SIZE"]),
    ),
    Relation(
        "INPUT.CROP.SIZE",
        "the smallest and the largest side, as INPUT.CROP.TYPE is absolute_range",
        _crop("absolute_range"),
        lambda v: _is_range(v["INPUT.CROP.SIZE"]),
    ),
    *(
        Relation(
            key,
            "a number for each channel of INPUT.FORMAT",
            lambda v: True,
            lambda v, key=key: len(v[key]) in _channels(v),
        )
        for key in ("MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD")
    ),
    Relation(
        "DATALOADER.RANDOM_SUBSET_RATIO",
        "a number above 0 and at most 1",
        _sampler("RandomSubsetTrainingSampler"),
        lambda v: _is_share(v["DATALOADER.RANDOM_SUBSET_RATIO"]),
    ),
    Relation(
        "DATASETS.TRAIN_REPEAT_FACTOR",
        "pairs of a name in DATASETS.TRAIN and a number above 0",
        _sampler("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
        lambda v: _are_factors(v["DATASETS.TRAIN_REPEAT_FACTOR"], v["DATASETS.TRAIN"]),
    ),
)


def check_relations(values: Values) -> None:
    """Check the values of a YAML file's keys against each other.

    Raises:
        UsageError: the first one that is not as expected, with its key.
    """
    sampler = values["DATALOADER.SAMPLER_TRAIN"]
    needed = SAMPLER_KEYS.get(sampler)
    if needed and needed not in values:
        raise UsageError(
            f"DATALOADER.SAMPLER_TRAIN: {sampler} needs {needed}, which Detectron2's config lacks "
            "and code has to add; expected TrainingSampler or RepeatFactorTrainingSampler"
        )
    for key, expected, concerns, holds in RELATIONS:
        if concerns(values) and not holds(values):
            raise UsageError(f"{key}: expected {expected}, got {values[key]!r}")
