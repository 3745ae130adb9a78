"""A config follows the user's data: which sets it names, how many classes and keypoints."""

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_PERSON_KEYPOINT_NAMES

from ..config import detector_section_name
from ..data.keypoints import flip_pairs, unpaired
from ..data.own import Description, OwnData
from .errors import UsageError
from .evaluation import predicted

# by which ending of its name a data set is taken for what
ENDINGS = {"DATASETS.TRAIN": ("_train",), "DATASETS.TEST": ("_val", "_test")}
KEYPOINTS = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
SIGMAS = "TEST.KEYPOINT_OKS_SIGMAS"
# The mean of COCO's 17 (https://cocodataset.org/#keypoints-eval). There is no agreed value for
# other keypoints: Ultralytics takes 1 / their number, RF-DETR 0.1.
SIGMA = 0.067


def follow_data(
    cfg: CfgNode, data: Sequence[OwnData], given: Collection[str], say: Callable[[str], None]
) -> None:
    """Register data sets and set what a config, not frozen, has to do with them.

    A set whose name ends in _train becomes DATASETS.TRAIN, those in _val and _test DATASETS.TEST,
    unless the config names a set of ``data`` there; an own training set without a test set empties
    DATASETS.TEST. The numbers of classes and keypoints, the OKS sigmas and the form of masks are
    those of the training set, or where that is another's, of the test set.

    Args:
        given: keys of the user's overrides, which stay as they are.
        say: takes a line on each thing that was decided.

    Raises:
        UsageError: files that are not there or not COCO's, a name that is taken, or given twice,
            or used nowhere.
    """
    register_data(data)
    _choose_sets(cfg, [one.name for one in data], given, say)
    ours = {one.name: one.about for one in data}
    used = [name for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if name in ours]
    for name in ours:
        if name not in used:
            raise UsageError(
                f"--dataset {name} is used nowhere: end its name in _train, _val or _test, or name "
                "it in DATASETS.TRAIN or DATASETS.TEST"
            )
    _follow(cfg, used[0], ours[used[0]], given, say)


def register_data(data: Sequence[OwnData]) -> None:
    """Make data sets known to this process, as each one of a run needs.

    Raises:
        UsageError: files that are not there or not COCO's, a name that is taken or given twice.
    """
    for one in data:
        if sum(one.name == other.name for other in data) > 1:
            raise UsageError(f"--dataset {one.name} is given more than once")
        try:
            one.register()
        except ValueError as error:
            raise UsageError(f"--dataset {one.name}: {error}") from error


def classes_key(cfg: CfgNode) -> str:
    """Of a detector's number of classes."""
    return f"MODEL.{detector_section_name(cfg)}.NUM_CLASSES"


def get(cfg: CfgNode, key: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, key.split("."), cfg)


def _choose_sets(
    cfg: CfgNode, names: list[str], given: Collection[str], say: Callable[[str], None]
) -> None:
    before, sets = cfg.DATASETS.clone(), cfg.DATASETS
    for key, endings in ENDINGS.items():
        node = key.split(".")[1]
        ours = tuple(name for name in names if name.endswith(endings))
        if ours and key not in given and not set(names) & set(sets[node]):
            sets[node] = ours
    if (
        "DATASETS.TEST" not in given
        and set(names) & set(sets.TRAIN)
        and not set(names) & set(sets.TEST)
    ):
        sets.TEST = ()
    if (before.TRAIN, before.TEST) != (sets.TRAIN, sets.TEST):
        say(f"--dataset: DATASETS.TRAIN is {sets.TRAIN}, DATASETS.TEST {sets.TEST}")


def _follow(
    cfg: CfgNode,
    name: str,
    about: Description,
    given: Collection[str],
    say: Callable[[str], None],
) -> None:
    tasks = predicted(cfg)
    wanted: dict[str, Any] = {classes_key(cfg): len(about.classes)}
    if "segm" in tasks and about.rle:
        wanted["INPUT.MASK_FORMAT"] = "bitmask"
    keypoints = about.keypoints if "keypoints" in tasks else ()
    if keypoints:
        wanted[KEYPOINTS] = len(keypoints)
        if len(cfg.TEST.KEYPOINT_OKS_SIGMAS) != len(keypoints):  # else they are of this data
            coco = keypoints == COCO_PERSON_KEYPOINT_NAMES
            wanted[SIGMAS] = [] if coco else [SIGMA] * len(keypoints)  # empty: COCO's own
    wanted = {k: v for k, v in wanted.items() if k not in given and v != get(cfg, k)}
    if wanted.get(SIGMAS):
        say(
            f"{name}: {SIGMAS} is {SIGMA} for each of {len(keypoints)} keypoints, the mean of "
            "COCO's, as they are not COCO's; give your own where you know them, and compare AP "
            "under the same ones alone"
        )
    told = [f"{k} {get(cfg, k)} -> {v}" for k, v in wanted.items() if k != SIGMAS or not v]
    cfg.merge_from_list([word for pair in wanted.items() for word in pair])
    if told:
        say(f"{name}, {len(about.classes)} class(es): {', '.join(told)}")
    if keypoints and cfg.INPUT.RANDOM_FLIP == "horizontal" and name in cfg.DATASETS.TRAIN:
        say(f"{name}: {_flips(keypoints)}")


def _flips(keypoints: Sequence[str]) -> str:
    alone = unpaired(keypoints)
    if alone:
        return (
            f"no partner on the other side for {', '.join(alone)}, so a flipped image keeps their "
            "names, which are then wrong; name both sides alike (left_eye, right_eye) or set "
            "INPUT.RANDOM_FLIP none"
        )
    pairs = [" and ".join(pair) for pair in flip_pairs(keypoints)]
    if pairs:
        return f"where an image is flipped, so are {', '.join(pairs)}"
    return (
        "no keypoint is left or right by its name, so a flipped image keeps them all; set "
        "INPUT.RANDOM_FLIP none where that is wrong"
    )
