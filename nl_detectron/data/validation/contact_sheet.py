"""A contact sheet: some images of a data set in COCO's format with their annotations drawn."""

import os
from collections.abc import Iterator

import numpy as np
from detectron2.data import Metadata
from detectron2.structures import BoxMode
from detectron2.utils.visualizer import ColorMode, Visualizer
from matplotlib.figure import Figure

from ..coco_dataset import describe, names_and_colours
from ..images import read_image
from .checks import check_annotation, whole_images
from .issues import ISSUE_TYPES
from .sheet import MOST, arrange
from .values import is_polygon

COLUMNS = 4
WIDTH, HEIGHT = 480, 360  # largest size of an image in pixels
# Issues that stop all training, but here concern a part of an annotation.
PARTS = {"malformed mask": "masks", "malformed RLE": "masks", "malformed keypoints": "keypoints"}


def contact_sheet(content: dict, folder: str | os.PathLike) -> Figure:
    """Draw up to 12 images that show as many classes as possible, with their annotations.

    Images that cannot be read and broken parts of annotations are omitted; :mod:`.checks` reports
    them.

    Args:
        content: what :func:`nl_detectron.data.coco.read_coco` returns.
        folder: the images' folder.

    Raises:
        ValueError: no annotated image can be read.
    """
    info = describe(content)
    metadata = Metadata(**names_and_colours(info))
    of_image: dict = {}
    for image, record in _records(content, len(info.keypoints)):
        of_image.setdefault(image, []).append(record)
    left = {i["id"]: i["file_name"] for i in whole_images(content) if i["id"] in of_image}
    unseen, drawn = set(range(len(info.classes))), {}
    while left and len(drawn) < MOST:
        classes = {i: {r["category_id"] for r in of_image[i]} for i in left}
        best = max(left, key=lambda image: len(classes[image] & unseen))
        name = left.pop(best)
        try:
            pixels = read_image(os.path.join(folder, name), "RGB")
        except Exception:  # Pillow's formats raise different types
            continue
        drawn[name] = _draw_image(pixels, of_image[best], metadata)
        unseen -= classes[best]
    if not drawn:
        raise ValueError("no annotated image can be read, so there is nothing to draw")
    return arrange(drawn, COLUMNS, WIDTH, HEIGHT, fontsize=9)


def _records(content: dict, keypoints: int) -> Iterator[tuple[object, dict]]:
    """Image id and annotation in Detectron2's format, without broken parts."""
    images = {image["id"]: image for image in whole_images(content)}
    categories = {category["id"]: category for category in content["categories"]}
    numbers = {category: i for i, category in enumerate(sorted(categories))}
    for annotation in content["annotations"]:
        kinds = check_annotation(annotation, images, categories, masks=True)
        broken = {
            PARTS.get(kind, ISSUE_TYPES[kind].scope)
            for kind in kinds
            if ISSUE_TYPES[kind].severity == "error"
        }
        if "all" in broken or annotation["image_id"] not in images:
            continue
        record = {
            "bbox": annotation["bbox"],
            "bbox_mode": BoxMode.XYWH_ABS,
            "category_id": numbers[annotation["category_id"]],
            "iscrowd": annotation.get("iscrowd", 0),
        }
        mask, points = annotation.get("segmentation"), annotation.get("keypoints") or []
        if "masks" not in broken:
            polygons = isinstance(mask, list)
            record["segmentation"] = [p for p in mask if is_polygon(p)] if polygons else mask
        if points and "keypoints" not in broken and len(points) == 3 * keypoints:
            record["keypoints"] = points
        yield annotation["image_id"], record


def _draw_image(pixels: np.ndarray, records: list[dict], metadata: Metadata) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    np.random.seed(0)  # the Visualizer varies a class's colour randomly; this makes it repeatable
    drawing = Visualizer(pixels, metadata, scale, ColorMode.SEGMENTATION)
    # the Visualizer expects annotations with the same parts
    for parts in sorted({_parts(record) for record in records}):
        drawing.draw_dataset_dict({"annotations": [r for r in records if _parts(r) == parts]})
    return drawing.output.get_image()


def _parts(record: dict) -> tuple[str, ...]:
    return tuple(key for key in ("segmentation", "keypoints") if key in record)
