"""Types of issues in a data set in COCO's format or of videos, and their counts and places."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

Issue = tuple[str, str]  # the name of its type, and the place
SEVERITIES = ("info", "warning", "error")
OUTSIDE = "image outside its folder"  # an issue that a user may allow
EXAMPLES = 3  # places that are kept per type


@dataclass(frozen=True)
class IssueType:
    """How serious an issue is and what it concerns.

    Attributes:
        severity: "error" if a run would stop or have wrong results; "warning" if something is
            ignored or is probably a mistake; "info" otherwise.
        scope: "all", or the runs that the issue concerns: "masks", "keypoints", "evaluation", "mask
            evaluation" or "keypoint evaluation".
        meaning: the cause or the consequence.
    """

    severity: str
    scope: str
    meaning: str


ISSUE_TYPES = {
    "missing image": IssueType("error", "all", "training stops at this image"),
    "unreadable image": IssueType("error", "all", "broken, or not an image: training stops there"),
    "width and height swapped": IssueType(
        "error", "all", "training stops there; often an EXIF rotation, which training applies"
    ),
    "wrong image size": IssueType("error", "all", "differs from its entry: training stops there"),
    "nothing annotated": IssueType(
        "error",
        "all",
        "no annotation but crowds and broken polygons belongs to an image of the file",
    ),
    "incomplete image": IssueType(
        "error", "all", "lacks id, file_name, height or width, or has one of another type"
    ),
    "no image size": IssueType("error", "all", "height and width must be above 0"),
    "extreme image shape": IssueType(
        "error", "all", "one side is over 1,000 times the other: resizing leaves no pixel of it"
    ),
    OUTSIDE: IssueType(
        "error",
        "all",
        "an absolute name or ../: move it, or allow it by DATASETS.ALLOW_OUTSIDE_IMAGES True",
    ),
    "image ids of two types": IssueType("error", "all", "some are numbers, others are strings"),
    "image id twice": IssueType("error", "all", "one of the two is lost"),
    "class id twice": IssueType("error", "all", "one of the two is lost"),
    "annotation id twice": IssueType("error", "all", "Detectron2 refuses such a file"),
    "incomplete annotation": IssueType(
        "error", "all", "lacks id, image_id, category_id or bbox, or has one of another type"
    ),
    "unknown category": IssueType("error", "all", "its category_id is not among the categories"),
    "malformed box": IssueType("error", "all", "a bbox must be four finite numbers of pixels"),
    "malformed iscrowd": IssueType("error", "all", "must be 0 or 1: training ignores any other"),
    "ignore is set": IssueType("error", "all", "Detectron2 refuses it; COCO uses iscrowd"),
    "no mask": IssueType("error", "masks", "others have one; Mask R-CNN needs one for each"),
    "malformed mask": IssueType(
        "error", "all", "neither a list of polygons, which are lists of numbers, nor an RLE"
    ),
    "malformed RLE": IssueType(
        "error", "all", "its counts must be 0 or more and add up to the product of its size"
    ),
    "mask far outside its image": IssueType(
        "error", "masks", "further than the image is long: drawing it would take for ever"
    ),
    "mask of another size": IssueType("error", "masks", "an RLE must have the size of its image"),
    "keypoint name twice": IssueType("error", "keypoints", "names decide what a flip swaps"),
    "keypoints differ": IssueType(
        "error", "keypoints", "classes differ in their keypoints, but a model has one list"
    ),
    "malformed keypoints": IssueType("error", "all", "neither missing nor a list of numbers"),
    "no labelled keypoints": IssueType(
        "error", "keypoints", "no visibility is above 0: nothing to train keypoints on"
    ),
    "no keypoints": IssueType(
        "error", "keypoints", "Keypoint R-CNN needs all (zeros mean not labelled)"
    ),
    "keypoint count": IssueType(
        "error", "keypoints", "must be x, y, visibility for each keypoint of its class"
    ),
    "malformed area": IssueType("error", "evaluation", "must be a number of pixels, 0 or more"),
    "id is no integer": IssueType("error", "evaluation", "COCO's evaluation needs integers"),
    "no area or iscrowd": IssueType("error", "evaluation", "COCO's evaluation needs both"),
    "first polygon without 3 points": IssueType(
        "error", "mask evaluation", "pycocotools takes it for a box, and evaluation stops"
    ),
    "no num_keypoints": IssueType("error", "keypoint evaluation", "COCO's evaluation needs it"),
    "unknown image": IssueType(
        "warning", "all", "its image_id is not among the images: never used"
    ),
    "image of more than 8 bits": IssueType(
        "warning",
        "all",
        "reduced to 8: 16 bits by 1/257, others by their range; convert it for other limits",
    ),
    "image file twice": IssueType("warning", "all", "one file with several ids"),
    "annotation twice": IssueType("warning", "all", "same image, class and box"),
    "annotation id 0": IssueType(
        "warning",
        "evaluation",
        "pycocotools counts a detection that matches it as a false positive",
    ),
    "empty box": IssueType(
        "warning", "all", "no width or height: ignored in training, never found"
    ),
    "box outside its image": IssueType(
        "warning", "all", "clipped; is it x1, y1 instead of width, height?"
    ),
    "broken polygon": IssueType(
        "warning", "masks", "odd length, or fewer than 3 points: ignored in training"
    ),
    "flat polygon": IssueType("warning", "masks", "no area"),
    "keypoint outside its image": IssueType("warning", "keypoints", "treated as not labelled"),
    "wrong num_keypoints": IssueType(
        "warning", "keypoints", "differs from the number with a visibility above 0"
    ),
    "keypoints without names": IssueType(
        "warning", "keypoints", "its class has no keypoint names: ignored"
    ),
    "broken skeleton": IssueType(
        "warning", "keypoints", "not pairs counted from 1: no lines are drawn"
    ),
    "class name twice": IssueType("warning", "all", "two classes cannot be told apart by name"),
    "class without annotations": IssueType("warning", "all", "nothing to learn, and no AP"),
    "image without annotations": IssueType("info", "all", "ignored in training"),
    "image of crowds alone": IssueType("info", "all", "or broken polygons: ignored in training"),
}

# Of a list of videos; their scope is always "all".
VIDEO_ISSUE_TYPES = {
    "malformed line": IssueType("error", "all", "no run accepts the list"),
    "nothing listed": IssueType("error", "all", "no videos to train or to evaluate on"),
    "unknown class": IssueType(
        "error", "all", "the label is no class of classes.txt: no run accepts the list"
    ),
    "video with two labels": IssueType(
        "error", "all", "listed twice with different ones: no run accepts the list"
    ),
    "missing video": IssueType("error", "all", "training stops at this video"),
    "unreadable video": IssueType(
        "error", "all", "empty, broken, or without pictures: training stops there"
    ),
    "video outside its folder": IssueType(
        "error",
        "all",
        "an absolute name or ../: move it, or allow it by DATASETS.ALLOW_OUTSIDE_IMAGES True",
    ),
    "video not found": IssueType(
        "warning", "all", "no file of this YouTube id and these times: left out"
    ),
    "video shorter than a clip": IssueType(
        "warning", "all", "its first frames follow after its last one"
    ),
    "video listed twice": IssueType("warning", "all", "used once"),
    "class without videos": IssueType("warning", "all", "nothing to learn or to evaluate"),
    "video without classes": IssueType("info", "all", "all classes are negative"),
    "variable frame rate": IssueType("info", "all", "frames are taken by number, not by time"),
}


@dataclass(frozen=True)
class Finding:
    """All issues of one type: their number and the places of the first ones."""

    kind: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind} ({self.count}: {', '.join(self.examples)}{self.more})"

    @property
    def severity(self) -> str:
        return self.type.severity

    @property
    def type(self) -> IssueType:
        return ISSUE_TYPES.get(self.kind) or VIDEO_ISSUE_TYPES[self.kind]

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
    kinds = [kind for kind in (*ISSUE_TYPES, *VIDEO_ISSUE_TYPES) if kind in counts]
    return [Finding(kind, counts[kind], tuple(examples[kind])) for kind in kinds]


def worst_severity(findings: Iterable[Finding]) -> str:
    """The highest severity among findings; "info" if there are none."""
    return max((f.severity for f in findings), key=SEVERITIES.index, default="info")
