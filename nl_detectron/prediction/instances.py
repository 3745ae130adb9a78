"""Instances in words: names and colours of their classes, labels, and dicts for JSON."""

from collections.abc import Callable
from typing import cast

import numpy as np
import pycocotools.mask
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils.colormap import colormap

from ..config import detector_section


def find_dataset_metadata(cfg: CfgNode) -> tuple[str, Metadata]:
    """Name and metadata of the first data set to test on, or else to train on."""
    name = next(iter((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)), "")
    return name, MetadataCatalog.get(name) if name else Metadata()


def make_class_metadata(cfg: CfgNode, say: Callable[[str], None]) -> Metadata:
    """Names and colours of a model's classes and keypoints, as its data set has them.

    Where the data set is unknown here or has another number of classes, they have no names.

    Args:
        say: takes a warning that classes have no names.
    """
    name, known = find_dataset_metadata(cfg)
    count, named = detector_section(cfg).NUM_CLASSES, len(known.get("thing_classes", ()))
    kept = {}
    if named == count:
        kept["thing_classes"] = list(known.thing_classes)
    else:
        say(
            f"warning: classes are shown by number, because the model has {count} and the data "
            f"set {name!r} names {named}; --dataset gives the names of your own data"
        )
    colours = known.get("thing_colors", ())
    if len(colours) != count:
        colours = np.resize(colormap(rgb=True), (count, 3))
    kept["thing_colors"] = np.asarray(colours).tolist()
    if len(known.get("keypoint_names", ())) == cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS:
        kept["keypoint_names"] = known.keypoint_names
        kept["keypoint_connection_rules"] = known.get("keypoint_connection_rules")
    return Metadata(**kept)


def format_labels(instances: Instances, metadata: Metadata) -> list[str]:
    """Class and score of each detection: ``blue 98%`` or, without names, ``class 2 98%``."""
    names = metadata.get("thing_classes")
    pairs = zip(instances.pred_classes.tolist(), instances.scores.tolist(), strict=True)
    return [f"{names[kind] if names else f'class {kind}'} {score:.0%}" for kind, score in pairs]


def describe_instances(instances: Instances, metadata: Metadata) -> list[dict]:
    """Each detection as a dict for JSON, in pixels of the image.

    It has the class, the score, the box (x0, y0, x1, y1) and, where the model predicts them,
    keypoints (x, y, score) and the mask (COCO's RLE).
    """
    names = metadata.get("thing_classes")
    columns = (instances.pred_classes, instances.scores, instances.pred_boxes.tensor)
    rows = [
        {
            "class_id": kind,
            "class_name": names[kind] if names else None,
            "score": score,
            "box": box,
        }
        for kind, score, box in zip(*(c.tolist() for c in columns), strict=True)
    ]
    if instances.has("pred_keypoints"):
        for row, keypoints in zip(rows, instances.pred_keypoints.tolist(), strict=True):
            row["keypoints"] = keypoints
    if instances.has("pred_masks"):
        for row, mask in zip(rows, instances.pred_masks.numpy(), strict=True):
            rle = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            counts = cast(bytes, rle["counts"])  # a str, says its stub
            row["mask"] = {"size": rle["size"], "counts": counts.decode()}
    return rows
