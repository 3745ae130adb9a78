"""The types of issues in a data set in COCO's format, and how often and where each was found."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Issue = tuple[str, str]  # the name of its type, and the place
SEVERITIES = ("info", "warning", "error")
EXAMPLES = 3  # of a kind that are kept


@dataclass(frozen=True)
class IssueType:
    """How serious an issue is and what it concerns.

    Attributes:
        severity: "error" if a run would stop or its results be wrong; "warning" if something is
            left out or is probably a mistake; "info" otherwise.
        scope: "all", or the runs that it concerns: "masks", "keypoints", "evaluation", "mask
            evaluation" or "keypoint evaluation".
        meaning: its consequence.
    """

    severity: str
    scope: str
    meaning: str


ISSUE_TYPES = {
    "missing image": IssueType("error", "all", "training stops where it comes to it"),
    "unreadable image": IssueType("error", "all", "broken or no image: training stops there"),
    "width and height swapped": IssueType(
        "error", "all", "training stops there; often by an EXIF rotation, which it applies"
    ),
    "wrong image size": IssueType("error", "all", "not what its entry says: training stops there"),
    "nothing annotated": IssueType("error", "all", "no annotation is of an image of the file"),
    "incomplete image": IssueType("error", "all", "lacks id, file_name, height or width"),
    "image id twice": IssueType("error", "all", "one of the two is lost"),
    "class id twice": IssueType("error", "all", "one of the two is lost"),
    "annotation id twice": IssueType("error", "all", "Detectron2 refuses such a file"),
    "incomplete annotation": IssueType("error", "all", "lacks id, image_id, category_id or bbox"),
    "unknown category": IssueType("error", "all", "a category_id that categories lack"),
    "malformed box": IssueType("error", "all", "a bbox is four finite numbers"),
    "ignore is set": IssueType("error", "all", "Detectron2 refuses it; COCO's own is iscrowd"),
    "no mask": IssueType("error", "masks", "others have one; Mask R-CNN needs all"),
    "malformed mask": IssueType("error", "masks", "no list of polygons and no RLE"),
    "mask of another size": IssueType("error", "masks", "an RLE's size is its image's"),
    "keypoint name twice": IssueType("error", "keypoints", "names tell what a flip swaps"),
    "keypoints differ": IssueType(
        "error", "keypoints", "classes with other keypoints than the first's: a model has one list"
    ),
    "no keypoints": IssueType(
        "error", "keypoints", "Keypoint R-CNN needs all (zeros: not labelled)"
    ),
    "keypoint count": IssueType("error", "keypoints", "not x, y, visibility for each of its class"),
    "no area or iscrowd": IssueType("error", "evaluation", "COCO's evaluation stops without"),
    "first polygon without 3 points": IssueType(
        "error", "mask evaluation", "pycocotools takes it for a box, and COCO's evaluation stops"
    ),
    "no num_keypoints": IssueType(
        "error", "keypoint evaluation", "COCO's evaluation stops without"
    ),
    "unknown image": IssueType("warning", "all", "an image_id that images lack: never seen"),
    "image file twice": IssueType("warning", "all", "one file under several ids"),
    "annotation twice": IssueType("warning", "all", "same image, class and box"),
    "annotation id 0": IssueType(
        "warning", "evaluation", "pycocotools takes what matches it for a false positive"
    ),
    "empty box": IssueType(
        "warning", "all", "no width or height: left out in training, never found"
    ),
    "box outside its image": IssueType("warning", "all", "cut off; x1, y1 for width, height?"),
    "broken polygon": IssueType(
        "warning", "masks", "odd, or fewer than 3 points: left out in training"
    ),
    "flat polygon": IssueType("warning", "masks", "it has no area"),
    "keypoint outside its image": IssueType("warning", "keypoints", "taken as not labelled"),
    "wrong num_keypoints": IssueType(
        "warning", "keypoints", "not the number with a visibility above 0"
    ),
    "keypoints without names": IssueType("warning", "keypoints", "its class names none: not used"),
    "broken skeleton": IssueType(
        "warning", "keypoints", "no pairs counted from 1: no lines are drawn"
    ),
    "class name twice": IssueType("warning", "all", "two classes cannot be told apart by name"),
    "class without annotations": IssueType("warning", "all", "nothing to learn, and no AP"),
    "image without annotations": IssueType("info", "all", "left out in training"),
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
        return ISSUE_TYPES[self.kind].severity

    @property
    def more(self) -> str:
        return ", …" if self.count > len(self.examples) else ""


def summarize_issues(issues: Iterable[Issue]) -> list[Finding]:
    """Findings by issue type, the most severe first, each with its count and first places."""
    counts: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    for kind, place in issues:
        counts[kind] += 1
        if counts[kind] <= EXAMPLES:
            examples.setdefault(kind, []).append(place)
    return [Finding(k, counts[k], tuple(examples[k])) for k in ISSUE_TYPES if k in counts]


def worst_severity(findings: Iterable[Finding]) -> str:
    """The highest severity among findings; "info" if there are none."""
    return max((f.severity for f in findings), key=SEVERITIES.index, default="info")
