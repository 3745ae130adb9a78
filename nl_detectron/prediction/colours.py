"""Colours of detections: one for each class, varied from one instance to another."""

from collections.abc import Sequence

import numpy as np
from detectron2.structures import Instances, pairwise_iou

SAME_INSTANCE = 0.5  # least IoU of an instance's boxes in two successive frames


class InstanceColours:
    """Gives each instance a variant of its class's colour, and keeps it in the next frame.

    Args:
        class_colours: RGB from 0 to 255 of each class.
    """

    def __init__(self, class_colours: Sequence[Sequence[int]]):
        self._class_colours = np.array(class_colours) / 255
        self._previous: Instances | None = None
        self._variants: dict[int, int] = {}  # by index of the previous instances

    def assign(self, instances: Instances) -> list[np.ndarray]:
        """RGB from 0 to 1 of each instance of the next frame."""
        classes = instances.pred_classes.tolist()
        variants = self._match_previous(instances)
        for i, kind in enumerate(classes):
            if i not in variants:
                taken = {v for j, v in variants.items() if classes[j] == kind}
                variants[i] = next(v for v in range(len(classes) + 1) if v not in taken)
        self._previous, self._variants = instances, variants
        return [self._make_colour(kind, variants[i]) for i, kind in enumerate(classes)]

    def _match_previous(self, instances: Instances) -> dict[int, int]:
        """By index, variants of instances that the previous frame had there, in this class."""
        variants: dict[int, int] = {}
        previous = self._previous
        if previous is None or not len(previous) or not len(instances):
            return variants
        overlap = pairwise_iou(instances.pred_boxes, previous.pred_boxes)
        overlap[instances.pred_classes[:, None] != previous.pred_classes] = 0
        for i in range(len(instances)):
            j = int(overlap[i].argmax())
            if overlap[i, j] >= SAME_INSTANCE:
                variants[i] = self._variants[j]
                overlap[:, j] = 0
        return variants

    def _make_colour(self, kind: int, variant: int) -> np.ndarray:
        """Lighter than the class's, so that text in it is legible on black."""
        more = np.random.default_rng(variant).random(3) if variant else np.ones(3)
        return np.clip(self._class_colours[kind] + 0.5 * more / np.linalg.norm(more), 0, 1)
