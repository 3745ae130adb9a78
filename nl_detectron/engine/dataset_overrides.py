"""Adapts a config to the data sets of ``--dataset``: names, numbers of classes and keypoints."""

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.datasets.builtin_meta import COCO_PERSON_KEYPOINT_NAMES

from ..config import detector_section_name, is_video
from ..data.coco_dataset import DatasetInfo
from ..data.keypoints import flip_pairs, unpaired
from ..data.own_dataset import OwnDataset
from ..data.video.dataset import VideoDataset, VideoInfo, share_classes
from ..errors import UsageError
from .evaluation import predicted_tasks
from .run import Config

# A data set whose name has one of these endings is used for the key.
ENDINGS = {"DATASETS.TRAIN": ("_train",), "DATASETS.TEST": ("_val", "_test")}
KEYPOINTS = "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"
MULTI_LABEL = "MODEL.VIDEO.MULTI_LABEL"
SIGMAS = "TEST.KEYPOINT_OKS_SIGMAS"
# The mean of COCO's 17 (https://cocodataset.org/#keypoints-eval). There is no agreed value for
# other keypoints: Ultralytics takes 1 / their number, RF-DETR 0.1.
SIGMA = 0.067


def adapt_config_to_dataset(
    cfg: CfgNode, data: Sequence[OwnDataset], given: Collection[str], say: Callable[[str], None]
) -> None:
    """Register data sets and adapt a config (not frozen) to them.

    Sets whose names end in _train become DATASETS.TRAIN, those in _val and _test DATASETS.TEST,
    unless the config already names a set of ``data`` there. If only a training set is given,
    DATASETS.TEST becomes empty. The numbers of classes and keypoints, the OKS sigmas and the mask
    format are those of the training set if it is one of ``data``, else those of the test set; of a
    video model the number of classes, and whether a video has several.

    Args:
        given: keys of the user's overrides, which are kept.
        say: called with one line for each decision.

    Raises:
        UsageError: a file is missing or not in COCO's format, or a name is taken, given twice or
            not used; or it is of videos and the model of images, or the other way round.
    """
    for one in data:
        if is_video(cfg) != isinstance(one, VideoDataset):
            has, needs = ("images", "videos") if is_video(cfg) else ("videos", "images")
            raise UsageError(
                f"--dataset {one.name} has {has}, but this model ({cfg.MODEL.META_ARCHITECTURE}) "
                f"takes {needs}: give a data set of {needs}, or a config of {has}"
            )
    data = register_data(data)
    _choose_sets(cfg, [one.name for one in data], given, say)
    infos = {one.name: one.info for one in data}
    used = [name for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST) if name in infos]
    for name in infos:
        if name not in used:
            raise UsageError(
                f"--dataset {name} is used nowhere: end its name in _train, _val or _test, or name "
                "it in DATASETS.TRAIN or DATASETS.TEST"
            )
    first = infos[used[0]]
    if isinstance(first, VideoInfo):
        _apply_videos(cfg, used[0], first, given, say)
    else:
        _apply_dataset(cfg, used[0], first, given, say)


def register_data(data: Sequence[OwnDataset]) -> Sequence[OwnDataset]:
    """Register data sets in this process, and return them. Every process of a run must call it.

    Those of videos share their classes.

    Raises:
        UsageError: a file is missing or not in COCO's format, or a name is taken or given twice.
    """
    videos = iter(share_classes([one for one in data if isinstance(one, VideoDataset)]))
    data = [next(videos) if isinstance(one, VideoDataset) else one for one in data]
    for one in data:
        if sum(one.name == other.name for other in data) > 1:
            raise UsageError(f"--dataset {one.name} is given more than once")
        try:
            one.register()
        except ValueError as error:
            raise UsageError(f"--dataset {one.name}: {error}") from error
    return data


def classes_key(cfg: CfgNode) -> str:
    """Config key of a model's number of classes."""
    return f"MODEL.{detector_section_name(cfg)}.NUM_CLASSES"


def get(cfg: Config, key: str) -> Any:
    """The value of a dotted key."""
    return reduce(getattr, key.split("."), cfg)


def _choose_sets(
    cfg: CfgNode, names: list[str], given: Collection[str], say: Callable[[str], None]
) -> None:
    before, sets = cfg.DATASETS.clone(), cfg.DATASETS
    for key, endings in ENDINGS.items():
        node = key.split(".")[1]
        matching = tuple(name for name in names if name.endswith(endings))
        if matching and key not in given and not set(names) & set(sets[node]):
            sets[node] = matching
    if (
        "DATASETS.TEST" not in given
        and set(names) & set(sets.TRAIN)
        and not set(names) & set(sets.TEST)
    ):
        sets.TEST = ()
    if (before.TRAIN, before.TEST) != (sets.TRAIN, sets.TEST):
        say(f"--dataset: DATASETS.TRAIN is {sets.TRAIN}, DATASETS.TEST {sets.TEST}")


def _apply_dataset(
    cfg: CfgNode,
    name: str,
    info: DatasetInfo,
    given: Collection[str],
    say: Callable[[str], None],
) -> None:
    tasks = predicted_tasks(cfg)
    wanted: dict[str, Any] = {classes_key(cfg): len(info.classes)}
    if "segm" in tasks and info.rle:
        wanted["INPUT.MASK_FORMAT"] = "bitmask"
    keypoints = info.keypoints if "keypoints" in tasks else ()
    if keypoints:
        wanted[KEYPOINTS] = len(keypoints)
        if len(cfg.TEST.KEYPOINT_OKS_SIGMAS) != len(keypoints):  # else keep the config's
            coco = keypoints == COCO_PERSON_KEYPOINT_NAMES
            wanted[SIGMAS] = [] if coco else [SIGMA] * len(keypoints)  # empty: COCO's own
    wanted = {k: v for k, v in wanted.items() if k not in given and v != get(cfg, k)}
    if wanted.get(SIGMAS):
        say(
            f"{name}: {SIGMAS} is {SIGMA} for each of {len(keypoints)} keypoints, the mean of "
            "COCO's, because these are not COCO's keypoints; set it if you know better values. "
            "Keypoint AP can be compared only under equal sigmas"
        )
    changes = [f"{k} {get(cfg, k)} -> {v}" for k, v in wanted.items() if k != SIGMAS or not v]
    cfg.merge_from_list([item for pair in wanted.items() for item in pair])
    if changes:
        say(f"{name}, {len(info.classes)} class(es): {', '.join(changes)}")
    if keypoints and cfg.INPUT.RANDOM_FLIP == "horizontal" and name in cfg.DATASETS.TRAIN:
        say(f"{name}: {_describe_flips(keypoints)}")


def _apply_videos(
    cfg: CfgNode, name: str, info: VideoInfo, given: Collection[str], say: Callable[[str], None]
) -> None:
    wanted = {classes_key(cfg): len(info.classes), MULTI_LABEL: info.multi_label}
    wanted = {k: v for k, v in wanted.items() if k not in given and v != get(cfg, k)}
    changes = [f"{key} {get(cfg, key)} -> {value}" for key, value in wanted.items()]
    cfg.merge_from_list([item for pair in wanted.items() for item in pair])
    if changes:
        say(f"{name}, {len(info.classes)} class(es): {', '.join(changes)}")


def _describe_flips(keypoints: Sequence[str]) -> str:
    """What a horizontal flip does to keypoints of these names."""
    alone = unpaired(keypoints)
    if alone:
        return (
            f"no partner on the other side for {', '.join(alone)}, so a flipped image keeps these "
            "names, which are then wrong; give both sides such names as left_eye and right_eye, or "
            "set INPUT.RANDOM_FLIP none"
        )
    pairs = [" and ".join(pair) for pair in flip_pairs(keypoints)]
    if pairs:
        return f"a flipped image swaps {', '.join(pairs)}"
    return (
        "no keypoint has left or right in its name, so a flipped image swaps none; set "
        "INPUT.RANDOM_FLIP none if that is wrong"
    )
