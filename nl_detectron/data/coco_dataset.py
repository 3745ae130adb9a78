"""A data set in COCO's format, from the command line to Detectron2's catalogs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from detectron2.data.datasets import register_coco_instances
from detectron2.utils.colormap import colormap

from .coco import read_coco
from .keypoints import connection_rules, flip_pairs
from .registration import is_registered, parse_argument
from .validation.checks import check_content
from .validation.issues import Finding, summarize_issues
from .validation.values import is_text

FORM = "NAME=ANNOTATIONS.json:IMAGE_FOLDER"
ARGUMENT = re.compile(r"(?P<name>[\w.-]+)=(?P<annotations>.+?\.json):(?P<images>.+)")


@dataclass(frozen=True)
class DatasetInfo:
    """Contents of a data set.

    Attributes:
        classes: names in the order of the categories' ids, which is the order of the model's
            classes.
        keypoints: names in order; empty if no class has keypoints.
        skeleton: pairs of keypoints to connect, counted from 1.
        masks: whether any annotation has a mask.
        rle: whether any annotation but a crowd has an RLE mask, which needs INPUT.MASK_FORMAT
            bitmask.
        images, annotations: numbers of images and annotations.
        errors: issues of severity "error" in the annotation file; image files are not checked.
        files: names of the images.
    """

    classes: tuple[str, ...]
    keypoints: tuple[str, ...]
    skeleton: Sequence[Sequence[int]]
    masks: bool
    rle: bool
    images: int
    annotations: int
    errors: tuple[Finding, ...]
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class CocoDataset:
    """A data set: its name in configs, its annotation file and its image folder.

    The annotation file is read once. Pickling includes the result, so worker processes do not read
    it again.
    """

    name: str
    annotations: str
    images: str

    @classmethod
    def parse(cls, text: str) -> "CocoDataset":
        """Parse ``NAME=ANNOTATIONS.json:IMAGE_FOLDER``; paths may contain colons.

        Raises:
            ValueError: the text has another form.
        """
        return cls(**parse_argument(text, ARGUMENT, FORM))

    @cached_property
    def info(self) -> DatasetInfo:
        """Contents of the annotation file.

        Raises:
            ValueError: the file is missing or not in COCO's format.
        """
        content = read_coco(self.annotations)
        return describe(content, summarize_issues(check_content(content)))

    def register(self) -> None:
        """Register the data set with Detectron2: names, colours, flip map and skeleton.

        Registering twice does nothing.

        Raises:
            ValueError: the file is missing or not in COCO's format, or the name is taken.
        """
        if is_registered(self.name, {"json_file": self.annotations, "image_root": self.images}):
            return
        known = {"dataset_info": self.info, **names_and_colours(self.info)}
        register_coco_instances(self.name, known, self.annotations, self.images)


def describe(content: dict, findings: Sequence[Finding] = ()) -> DatasetInfo:
    """Summarize the contents of an annotation file.

    Args:
        content: what :func:`~.coco.read_coco` returns.
        findings: issues found in it.
    """
    categories = sorted(content["categories"], key=lambda category: category["id"])
    first = next((c for c in categories if c.get("keypoints")), {})
    masks = [(a["segmentation"], a) for a in content["annotations"] if a.get("segmentation")]
    return DatasetInfo(
        classes=tuple(category["name"] for category in categories),
        keypoints=tuple(first.get("keypoints", ())),
        skeleton=first.get("skeleton") or (),
        masks=bool(masks),
        rle=any(isinstance(mask, dict) and not a.get("iscrowd") for mask, a in masks),
        images=len(content["images"]),
        annotations=len(content["annotations"]),
        errors=tuple(f for f in findings if f.severity == "error"),
        files=tuple(i["file_name"] for i in content["images"] if is_text(i.get("file_name"))),
    )


def names_and_colours(info: DatasetInfo) -> dict[str, list]:
    """Detectron2 metadata of the classes and, if there are any, of the keypoints."""
    colours, names = colormap(rgb=True).astype(int).tolist(), list(info.keypoints)
    classes = {
        "thing_classes": list(info.classes),
        "thing_colors": [colours[i % len(colours)] for i in range(len(info.classes))],
    }
    if not names:
        return classes
    return {
        **classes,
        "keypoint_names": names,
        "keypoint_flip_map": flip_pairs(names),
        "keypoint_connection_rules": connection_rules(names, info.skeleton),
    }
