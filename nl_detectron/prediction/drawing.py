"""Pictures of detections, and of what non-local blocks attend to."""

from typing import Literal

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Instances

from ..attention import AttentionRecord
from ..attention.draw import as_image, panel
from ..visualizer import Visualizer
from .colours import InstanceColours
from .inputs import Frame, SkipReporter, Source
from .instances import describe_instances, format_labels

SHORTEST, LONGEST = 320, 1920  # pixels; on smaller pictures labels would hide what they name
LARGEST_SCALE = 10  # Detectron2 has no font small enough beyond
AttentionPoint = Literal["auto"] | tuple[float, float]  # "auto": where detections are
MAX_POINTS = 3  # detections whose centres "auto" takes
DPI, MAX_DPI = 150, 200  # of panels; those below a video's frame may be finer, to be as wide
MAX_PANEL = 8000  # pixels of a panel: videos' codec takes 8191 a side, Matplotlib 65535


class PredictionDrawer:
    """Draws detections, and a panel of attention for each query point.

    Args:
        metadata: of :func:`make_class_metadata`.
        threshold: least score of a detection that is drawn.
        attention: a point (x, y) in pixels; or "auto", the centres of the detections with the
            highest scores (:data:`MAX_POINTS` in an image, one in a video); or None for no panels.
        skip: takes a point that lies outside an image.
        show_scores: show the scores log f of softmax forms in place of their weights.
    """

    def __init__(
        self,
        metadata: Metadata,
        threshold: float,
        attention: AttentionPoint | None,
        skip: SkipReporter,
        show_scores: bool = False,
    ):
        self.metadata = metadata
        self.threshold, self.skip, self.show_scores = threshold, skip, show_scores
        self.attention: AttentionPoint | None = attention
        self._colours = InstanceColours(metadata.thing_colors)
        self._source: Source | None = None

    def draw(
        self, frame: Frame, record: AttentionRecord
    ) -> tuple[np.ndarray, list[np.ndarray], list[dict]]:
        """RGB uint8 (H,W,3) of the detections and of each panel, and the detections for JSON."""
        first = frame.source != self._source
        if first:
            self._source = frame.source
            self._colours = InstanceColours(self.metadata.thing_colors)
        found = record.instances
        found = found[found.scores >= self.threshold]
        rows = describe_instances(found, self.metadata)
        picture = self._draw_detections(record.image, found, rows)
        panels = []
        for title, x, y in self._choose_points(frame, record, found, first):
            row = {block: record.attention(x, y, block) for block in record.blocks}
            figure = panel([row], [record], [title], scores=self.show_scores)
            as_wide = picture.shape[1] / figure.get_figwidth() if frame.source.video else DPI
            most = min(MAX_DPI, MAX_PANEL / max(figure.get_size_inches()))
            panels.append(as_image(figure, min(max(as_wide, DPI), most)))
        return picture, panels, rows

    def _draw_detections(self, image: np.ndarray, found: Instances, rows: list[dict]) -> np.ndarray:
        height, width = image.shape[:2]
        scale = min(SHORTEST / min(height, width), LONGEST / max(height, width), LARGEST_SCALE)
        drawn = Visualizer(image, self.metadata, max(scale, 1.0)).overlay_instances(
            boxes=found.pred_boxes,
            # as RLE: the Visualizer takes an array of two columns for a list of points
            masks=[row["mask"] for row in rows] if found.has("pred_masks") else None,
            keypoints=found.pred_keypoints if found.has("pred_keypoints") else None,
            labels=format_labels(found, self.metadata),
            assigned_colors=self._colours.assign(found),
        )
        return drawn.get_image()

    def _choose_points(
        self, frame: Frame, record: AttentionRecord, found: Instances, first: bool
    ) -> list[tuple[str, float, float]]:
        """Title, x and y of each query point."""
        height, width = record.image.shape[:2]
        if not self.attention:
            return []
        if self.attention == "auto":
            most = 1 if frame.source.video else MAX_POINTS
            best = found[found.scores.argsort(descending=True)[:most]]
            centres = best.pred_boxes.get_centers().tolist()
            labels = format_labels(best, self.metadata)
            points = [
                (f"from {label}", x, y) for label, (x, y) in zip(labels, centres, strict=True)
            ]
            return points or [("from the centre: nothing found", width / 2, height / 2)]
        x, y = self.attention
        if 0 <= x <= width and 0 <= y <= height:
            return [(f"from x {x:g}, y {y:g}", x, y)]
        if first:  # all frames of a video have one size
            self.skip(
                f"attention of {frame.source.path}",
                f"the point x {x:g}, y {y:g} lies outside its {width} x {height} pixels",
            )
        return []
