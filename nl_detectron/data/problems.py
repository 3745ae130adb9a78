"""What can be wrong with a data set in COCO's format: a table, and how often and where it is so."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Problem = tuple[str, str]  # its kind, and the place
SEVERITIES = ("info", "warning", "error")
EXAMPLES = 3  # of a kind that are kept


@dataclass(frozen=True)
class Kind:
    """Of problem.

    Attributes:
        severity: error, where a run would stop or its results be wrong; warning, where something
            is left out or most likely a mistake; info.
        part: what it is the matter with: "all", or "masks", "keypoints", "evaluation", "mask
            evaluation" or "keypoint evaluation", which not every run has.
        meaning: what comes of it.
    """

    severity: str
    part: str
    meaning: str


KINDS = {
    "missing image": Kind("error", "all", "training stops where it comes to it"),
    "unreadable image": Kind("error", "all", "broken or no image: training stops there"),
    "width and height swapped": Kind(
        "error", "all", "training stops there; often by an EXIF rotation, which it applies"
    ),
    "wrong image size": Kind("error", "all", "not what its entry says: training stops there"),
    "nothing annotated": Kind("error", "all", "no annotation is of an image of the file"),
    "incomplete image": Kind("error", "all", "lacks id, file_name, height or width"),
    "image id twice": Kind("error", "all", "one of the two is lost"),
    "class id twice": Kind("error", "all", "one of the two is lost"),
    "annotation id twice": Kind("error", "all", "Detectron2 refuses such a file"),
    "incomplete annotation": Kind("error", "all", "lacks id, image_id, category_id or bbox"),
    "unknown category": Kind("error", "all", "a category_id that categories lack"),
    "malformed box": Kind("error", "all", "a bbox is four finite numbers"),
    "ignore is set": Kind("error", "all", "Detectron2 refuses it; COCO's own is iscrowd"),
    "no mask": Kind("error", "masks", "others have one; Mask R-CNN needs all"),
    "malformed mask": Kind("error", "masks", "no list of polygons and no RLE"),
    "mask of another size": Kind("error", "masks", "an RLE's size is its image's"),
    "keypoint name twice": Kind("error", "keypoints", "names tell what a flip swaps"),
    "keypoints differ": Kind(
        "error", "keypoints", "classes with other keypoints than the first's: a model has one list"
    ),
    "no keypoints": Kind("error", "keypoints", "Keypoint R-CNN needs all (zeros: not labelled)"),
    "keypoint count": Kind("error", "keypoints", "not x, y, visibility for each of its class"),
    "no area or iscrowd": Kind("error", "evaluation", "COCO's evaluation stops without"),
    "first polygon without 3 points": Kind(
        "error", "mask evaluation", "pycocotools takes it for a box, and COCO's evaluation stops"
    ),
    "no num_keypoints": Kind("error", "keypoint evaluation", "COCO's evaluation stops without"),
    "unknown image": Kind("warning", "all", "an image_id that images lack: never seen"),
    "image file twice": Kind("warning", "all", "one file under several ids"),
    "annotation twice": Kind("warning", "all", "same image, class and box"),
    "annotation id 0": Kind(
        "warning", "evaluation", "pycocotools takes what matches it for a false positive"
    ),
    "empty box": Kind("warning", "all", "no width or height: left out in training, never found"),
    "box outside its image": Kind("warning", "all", "cut off; x1, y1 for width, height?"),
    "broken polygon": Kind("warning", "masks", "odd, or fewer than 3 points: left out in training"),
    "flat polygon": Kind("warning", "masks", "it has no area"),
    "keypoint outside its image": Kind("warning", "keypoints", "taken as not labelled"),
    "wrong num_keypoints": Kind("warning", "keypoints", "not the number with a visibility above 0"),
    "keypoints without names": Kind("warning", "keypoints", "its class names none: not used"),
    "broken skeleton": Kind("warning", "keypoints", "no pairs counted from 1: no lines are drawn"),
    "class name twice": Kind("warning", "all", "two classes cannot be told apart by name"),
    "class without annotations": Kind("warning", "all", "nothing to learn, and no AP"),
    "image without annotations": Kind("info", "all", "left out in training"),
}


@dataclass(frozen=True)
class Finding:
    """All problems of a kind: how many, and where the first are."""

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} ({self.count}: {', '.join(self.examples)}{self.more})"

    @property
    def severity(self) -> str:
        return KINDS[self.kind].severity

    @property
    def more(self) -> str:
        return ", …" if self.count > len(self.examples) else ""


def collected(problems: Iterable[Problem]) -> list[Finding]:
    """By kind, the gravest first."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for kind, place in problems:
        counts[kind] += 1
        if counts[kind] <= EXAMPLES:
            examples.setdefault(kind, []).append(place)
    return [Finding(k, counts[k], tuple(examples[k])) for k in KINDS if k in counts]


def worst(findings: Iterable[Finding]) -> str:
    """The gravest severity; of none, info."""
    return max((f.severity for f in findings), key=SEVERITIES.index, default="info")
