"""A user's own data set in COCO's format, from the command line to Detectron2's catalogues."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.colormap import colormap

from .check import check_content
from .coco import read_coco
from .keypoints import connection_rules, flip_pairs
from .problems import Finding, collected

FORM = "NAME=ANNOTATIONS.json:IMAGE_FOLDER"
WORD = re.compile(r"(?P<name>[\w.-]+)=(?P<annotations>.+?\.json):(?P<images>.+)")


@dataclass(frozen=True)
class Description:
    """What a data set holds.

    Attributes:
        classes: names, in the order of the categories' ids: the model's numbers from 0.
        keypoints: names, in order; none where no class has any.
        skeleton: pairs of keypoints to join, from 1.
        masks: some annotation has one.
        rle: some that is no crowd has one as RLE, which takes INPUT.MASK_FORMAT bitmask.
        images, annotations: how many.
        errors: problems of severity "error"; image files are not looked at.
    """

    classes: tuple[str, ...]
    keypoints: tuple[str, ...]
    skeleton: Sequence[Sequence[int]]
    masks: bool
    rle: bool
    images: int
    annotations: int
    errors: tuple[Finding, ...]


@dataclass(frozen=True)
class OwnData:
    """A data set: the name for configs, the annotation file and the folder of its images.

    The file is read once; pickled, this takes what it read along, to processes that train beside.
    """

    name: str
    annotations: str
    images: str

    @classmethod
    def parse(cls, word: str) -> "OwnData":
        """From ``NAME=ANNOTATIONS.json:IMAGE_FOLDER``; paths may have colons.

        Raises:
            ValueError: another form.
        """
        found = WORD.fullmatch(word)
        if not found:
            raise ValueError(
                f"expected {FORM}, with letters, digits, '_', '-' and '.' in NAME, got {word!r}"
            )
        return cls(**found.groupdict())

    @cached_property
    def about(self) -> Description:
        """Raises ValueError for a file that is not there or not COCO's."""
        content = read_coco(self.annotations)
        return describe(content, collected(check_content(content)))

    def register(self) -> None:
        """Make it known to Detectron2, with names, colours, flips and skeleton; once is enough.

        Raises:
            ValueError: a file that is not there or not COCO's, or a name that is taken.
        """
        metadata = MetadataCatalog.get(self.name)
        files = {"json_file": self.annotations, "image_root": self.images}
        if self.name in DatasetCatalog.list():
            if all(metadata.get(key) == path for key, path in files.items()):
                return
            raise ValueError(f"data set name {self.name!r} is taken; give another")
        known = {"description": self.about, **names_and_colours(self.about)}
        register_coco_instances(self.name, known, self.annotations, self.images)


def describe(content: dict, findings: Sequence[Finding] = ()) -> Description:
    """Of an annotation file that :func:`~.coco.read_coco` read, and what was found in it."""
    categories = sorted(content["categories"], key=lambda category: category["id"])
    first = next((c for c in categories if c.get("keypoints")), {})
    masks = [(a["segmentation"], a) for a in content["annotations"] if a.get("segmentation")]
    return Description(
        classes=tuple(category["name"] for category in categories),
        keypoints=tuple(first.get("keypoints", ())),
        skeleton=first.get("skeleton") or (),
        masks=bool(masks),
        rle=any(isinstance(mask, dict) and not a.get("iscrowd") for mask, a in masks),
        images=len(content["images"]),
        annotations=len(content["annotations"]),
        errors=tuple(f for f in findings if f.severity == "error"),
    )


def names_and_colours(about: Description) -> dict[str, list]:
    """What Detectron2's metadata tells of classes and, where there are any, of keypoints."""
    colours, names = colormap(rgb=True).astype(int).tolist(), list(about.keypoints)
    classes = {
        "thing_classes": list(about.classes),
        "thing_colors": [colours[i % len(colours)] for i in range(len(about.classes))],
    }
    if not names:
        return classes
    return {
        **classes,
        "keypoint_names": names,
        "keypoint_flip_map": flip_pairs(names),
        "keypoint_connection_rules": connection_rules(names, about.skeleton),
    }
