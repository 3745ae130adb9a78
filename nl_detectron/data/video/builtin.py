"""Kinetics-400 and Charades by name in Detectron2's catalogs."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog

from .dataset import VideoDataset


def register_builtin_videos() -> None:
    """Register ``kinetics400_train``, ``kinetics400_val``, ``charades_train``, ``charades_val`` and
    ``charades_trainval`` in the folder that DETECTRON2_DATASETS names, by default ``datasets``.

    Their files are read when a data set is first loaded.
    """
    for one in builtin_datasets(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))):
        if one.name not in DatasetCatalog.list():
            one.register_unread()
            MetadataCatalog.get(one.name).multi_label = one.name.startswith("charades")


def builtin_datasets(root: str | os.PathLike) -> list[VideoDataset]:
    """Kinetics-400 and Charades where Detectron2 expects data sets.

    Args:
        root: the folder that DETECTRON2_DATASETS names.
    """
    kinetics, charades = (os.path.join(root, name) for name in ("kinetics400", "charades"))
    lists = {part: os.path.join(kinetics, f"{part}.csv") for part in ("train", "val")}
    train, test = (os.path.join(charades, f"Charades_v1_{part}.csv") for part in ("train", "test"))
    videos = os.path.join(charades, "Charades_v1_480")
    return [
        VideoDataset(
            "kinetics400_train", lists["train"], os.path.join(kinetics, "train"), (lists["val"],)
        ),
        VideoDataset(
            "kinetics400_val", lists["val"], os.path.join(kinetics, "val"), (lists["train"],)
        ),
        VideoDataset("charades_train", train, videos),
        VideoDataset("charades_val", test, videos),
        VideoDataset("charades_trainval", f"{train}+{test}", videos),
    ]
