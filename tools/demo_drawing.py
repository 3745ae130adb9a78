"""How a demo shows what was found, and where blocks look."""

from collections.abc import Sequence

import numpy as np
import pycocotools.mask
from demo_inputs import Frame, Skipped, Source, say
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import Instances, pairwise_iou
from detectron2.utils.colormap import colormap
from detectron2.utils.visualizer import Visualizer

from nl_detectron.attention import AttentionRecord
from nl_detectron.attention.draw import as_image, panel
from nl_detectron.config import detector_section

SHORTEST, LONGEST = 320, 1920  # small images are drawn larger: labels would hide what they name
LARGEST = 10  # times: beyond, Detectron2 has no font small enough
MOST = 3  # detections that "auto" looks from
DPI, FINEST = 150, 200  # of panels; below a video's frame, up to the finest to be as wide
WIDEST = 8000  # pixels of a panel: the codec of videos takes 8191, Matplotlib 65535
SAME = 0.5  # IoU of a thing's boxes in two frames


class Colours:
    """A class's own, varied from one thing to another; a thing keeps its one in the next frame."""

    def __init__(self, of_classes: Sequence[Sequence[int]]):
        self._of_classes = np.array(of_classes) / 255
        self._before: Instances | None = None
        self._numbers: list[int] = []

    def __call__(self, found: Instances) -> list[np.ndarray]:
        kinds = found.pred_classes.tolist()
        numbers = self._kept(found)
        for i, kind in enumerate(kinds):
            if numbers[i] is None:
                taken = {n for n, k in zip(numbers, kinds, strict=True) if k == kind}
                numbers[i] = next(n for n in range(len(kinds) + 1) if n not in taken)
        self._before, self._numbers = found, numbers
        return [self._colour(k, n) for k, n in zip(kinds, numbers, strict=True)]

    def _kept(self, found: Instances) -> list[int | None]:
        """Numbers of those that were here before, by class and place."""
        numbers: list[int | None] = [None] * len(found)
        before = self._before
        if before is None or not len(before) or not len(found):
            return numbers
        overlap = pairwise_iou(found.pred_boxes, before.pred_boxes)
        overlap[found.pred_classes[:, None] != before.pred_classes] = 0
        for i in range(len(found)):
            j = int(overlap[i].argmax())
            if overlap[i, j] >= SAME:
                numbers[i] = self._numbers[j]
                overlap[:, j] = 0
        return numbers

    def _colour(self, kind: int, number: int) -> np.ndarray:
        """Lighter, so that text of it stands out of black."""
        more = np.random.default_rng(number).random(3) if number else np.ones(3)
        return np.clip(self._of_classes[kind] + 0.5 * more / np.linalg.norm(more), 0, 1)


class Drawing:
    """Pictures of what was found with at least a score, and of where blocks look.

    Args:
        attention: a point x, y; or "auto", centres of the surest detections (of a video, of the
            surest); or None.
        scores: show the scores of softmax forms in place of their weights.
    """

    def __init__(
        self,
        cfg: CfgNode,
        least: float,
        attention: str | tuple[float, float] | None,
        skipped: Skipped,
        scores: bool = False,
    ):
        self.classes = classes(cfg)
        self.least, self.attention, self.skipped = least, attention, skipped
        self.scores = scores
        self._colours = Colours(self.classes.thing_colors)
        self._source: Source | None = None

    def __call__(
        self, frame: Frame, record: AttentionRecord
    ) -> tuple[np.ndarray, list[np.ndarray], list[dict]]:
        """RGB of the detections, of a panel for each point, and the detections for JSON."""
        first = frame.source != self._source
        if first:
            self._source, self._colours = frame.source, Colours(self.classes.thing_colors)
        found = record.instances
        found = found[found.scores >= self.least]
        rows = describe_instances(found, self.classes)
        picture = self._detections(record.image, found, rows)
        panels = []
        for title, x, y in self._points(frame, record, found, first):
            row = {block: record.attention(x, y, block) for block in record.blocks}
            figure = panel([row], [record], [title], scores=self.scores)
            as_wide = picture.shape[1] / figure.get_figwidth() if frame.source.video else DPI
            most = min(FINEST, WIDEST / max(figure.get_size_inches()))
            panels.append(as_image(figure, min(max(as_wide, DPI), most)))
        return picture, panels, rows

    def _detections(self, image: np.ndarray, found: Instances, rows: list[dict]) -> np.ndarray:
        larger = min(SHORTEST / min(image.shape[:2]), LONGEST / max(image.shape[:2]), LARGEST)
        drawn = Visualizer(image, self.classes, max(larger, 1.0)).overlay_instances(
            boxes=found.pred_boxes,
            # as RLE: the Visualizer takes an array of two columns for a list of points
            masks=[row["mask"] for row in rows] if found.has("pred_masks") else None,
            keypoints=found.pred_keypoints if found.has("pred_keypoints") else None,
            labels=labels(found, self.classes),
            assigned_colors=self._colours(found),
        )
        return drawn.get_image()

    def _points(
        self, frame: Frame, record: AttentionRecord, found: Instances, first: bool
    ) -> list[tuple[str, float, float]]:
        """Words, x and y of each point to look from."""
        height, width = record.image.shape[:2]
        if not self.attention:
            return []
        if self.attention == "auto":
            most = 1 if frame.source.video else MOST
            best = found[found.scores.argsort(descending=True)[:most]]
            named = zip(labels(best, self.classes), best.pred_boxes.get_centers(), strict=True)
            found_at = [(f"from {label}", *centre.tolist()) for label, centre in named]
            return found_at or [("from the centre: nothing found", width / 2, height / 2)]
        x, y = self.attention
        if 0 <= x <= width and 0 <= y <= height:
            return [(f"from x {x:g}, y {y:g}", x, y)]
        if first:  # a video's frames are all alike
            self.skipped(
                f"attention of {frame.source.path}",
                f"the point x {x:g}, y {y:g} lies outside its {width} x {height} pixels",
            )
        return []


def classes(cfg: CfgNode) -> Metadata:
    """Names and colours of classes and keypoints, by the first data set to test or else train on.

    Where that is not known here, or is of another number, there are no names.
    """
    name = next(iter((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)), "")
    known = MetadataCatalog.get(name) if name else Metadata()
    count, named = detector_section(cfg).NUM_CLASSES, len(known.get("thing_classes", ()))
    kept = {}
    if named == count:
        kept["thing_classes"] = list(known.thing_classes)
    else:
        say(
            f"warning: classes are told by number, for the model has {count} and the data "
            f"set {name!r} names {named} here; --dataset names those of your own"
        )
    colours = known.get("thing_colors", ())
    if len(colours) != count:
        colours = np.resize(colormap(rgb=True), (count, 3))
    kept["thing_colors"] = np.asarray(colours).tolist()
    if len(known.get("keypoint_names", ())) == cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS:
        kept["keypoint_names"] = known.keypoint_names
        kept["keypoint_connection_rules"] = known.get("keypoint_connection_rules")
    return Metadata(**kept)


def labels(found: Instances, classes: Metadata) -> list[str]:
    names = classes.get("thing_classes")
    pairs = zip(found.pred_classes.tolist(), found.scores.tolist(), strict=True)
    return [f"{names[kind] if names else f'class {kind}'} {score:.0%}" for kind, score in pairs]


def describe_instances(found: Instances, classes: Metadata) -> list[dict]:
    """For JSON: class, score, box (x0, y0, x1, y1), and keypoints (x, y, score) and mask (COCO's
    RLE) of a model that predicts them; in pixels of the image."""
    names = classes.get("thing_classes")
    columns = (found.pred_classes, found.scores, found.pred_boxes.tensor)
    rows = [
        {
            "class_id": kind,
            "class_name": names[kind] if names else None,
            "score": score,
            "box": box,
        }
        for kind, score, box in zip(*(c.tolist() for c in columns), strict=True)
    ]
    if found.has("pred_keypoints"):
        for row, keypoints in zip(rows, found.pred_keypoints.tolist(), strict=True):
            row["keypoints"] = keypoints
    if found.has("pred_masks"):
        for row, mask in zip(rows, found.pred_masks.numpy(), strict=True):
            rle = pycocotools.mask.encode(np.asfortranarray(mask.astype(np.uint8)))
            row["mask"] = {"size": rle["size"], "counts": rle["counts"].decode()}
    return rows
