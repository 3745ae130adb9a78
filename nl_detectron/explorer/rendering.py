"""What the explorer shows: pictures and words for detections and for a point."""

import numpy as np
from detectron2.data import Metadata
from matplotlib.figure import Figure

from ..attention import Attention, AttentionRecord, mean_distance, strongest
from ..attention.draw import ARROWS, arrows, as_image, heat, heat_of_scores
from ..visualizer import Visualizer

WIDTH, DPI = 7.2, 100  # of a map: inches, about half the page's width
LONGEST = 800  # pixels of the picture's longer side, at least
NO_ROI = (
    "No detection holds this point, so this head did not look here. Click into a detection (those "
    "of lower scores than the slider's count, too)."
)


def picture_scale(record: AttentionRecord) -> float:
    """Scale of the picture of detections over the image: small images are enlarged."""
    return max(1.0, LONGEST / max(record.image.shape[:2]))


def render_detections(
    record: AttentionRecord, metadata: Metadata, threshold: float
) -> tuple[np.ndarray, str]:
    """A picture of the detections with at least a score, RGB uint8 (H,W,3), and their number."""
    found = record.instances
    sure = found[found.scores >= threshold] if found.has("scores") else found
    drawn = Visualizer(record.image, metadata, picture_scale(record))
    return (
        drawn.draw_instance_predictions(sure).get_image(),
        f"Detections with a score of {threshold:g} or more: {len(sure)} of {len(found)}.",
    )


def choose_first_point(record: AttentionRecord) -> tuple[float, float]:
    """The centre of the detection with the highest score, or of the image; x and y in pixels."""
    height, width = record.image.shape[:2]
    box = (0, 0, width, height)
    if len(record.instances):
        box = record.instances.pred_boxes.tensor[0].tolist()
    return round((box[0] + box[2]) / 2, 1), round((box[1] + box[3]) / 2, 1)


def render_point(
    record: AttentionRecord, x: float, y: float, what: str, block: str, form: str
) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Map, arrows and a description of a block's attention at a point.

    Args:
        x, y: in pixels; a point outside the image is moved to the nearest one inside.
        what: "weights", or "scores" for the log f of softmax forms.
        block: name of the block.
        form: one of the block's :func:`forms_of`.

    Returns:
        Two pictures, RGB uint8 (H,W,3), and Markdown; no pictures where a head did not look.
    """
    height, width = record.image.shape[:2]
    found = record.attention(min(max(x, 0), width), min(max(y, 0), height), block, form)
    if found is None:
        return None, None, NO_ROI
    own_form = record.forms(block)[0]
    return *_draw_maps(record, found, what), _describe_attention(found, own_form)


def describe_form(form: str, own_form: str) -> str:
    """Which of the block's tensors the weights of a form are computed from, in Markdown."""
    if form == own_form:
        return f"**{form}**, the block's own form."
    if form == "gaussian":
        return f"**gaussian**, of this block's input x; the block was trained as **{own_form}**."
    return f"**{form}**, of this block's theta and phi, which were trained as **{own_form}**."


def _draw_maps(
    record: AttentionRecord, found: Attention, what: str
) -> tuple[np.ndarray, np.ndarray]:
    """The map, of weights where the form has no scores; and the arrows."""
    height, width = record.image.shape[:2]
    tall = WIDTH * min(max(height / width, 0.1), 1.2)
    figure = Figure(figsize=(WIDTH, max(0.88 * tall, 2.4)), layout="constrained")
    axes = figure.subplots()
    axes.axis("off")
    of_scores = what == "scores" and found.scores is not None
    (heat_of_scores if of_scores else heat)(axes, record.image, found)
    plain = Figure(figsize=(min(max(tall * width / height, 1), WIDTH), tall))
    axes = plain.add_axes((0, 0, 1, 1))
    axes.axis("off")
    arrows(axes, record.image, found)
    return as_image(figure, DPI), as_image(plain, DPI)


def _describe_attention(found: Attention, own_form: str) -> str:
    sizes = np.abs(found.weights)
    best = strongest(found, ARROWS)
    x, y, weight = best[0]
    part = sum(abs(w) for *_, w in best) / max(float(sizes.sum()), 1e-12)
    return (
        f"{describe_form(found.form, own_form)} From x {found.point[0]:.0f}, y "
        f"{found.point[1]:.0f}: the greatest of {sizes.size} weights is "
        f"{weight * sizes.size:.3g} times an even one, at x {x:.0f}, y {y:.0f}; arrows: "
        f"{len(best)}, with {part:.0%} of all weight; mean distance: "
        f"{mean_distance(found):.0f} pixels."
    )
