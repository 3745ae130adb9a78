"""Checks of a data set in COCO's format, so that its issues are found before training.

An issue is the name of its type in :data:`~.issues.ISSUE_TYPES` and its place: a class, an image or
an annotation. Coordinates are in pixels; boxes are x, y, width, height.
"""

import math
import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from ..images import read_image
from ..keypoints import sound_skeleton
from .issues import Issue

SLACK = 1.0  # pixels that a box or a keypoint may lie outside: rounding


def check_content(content: dict) -> Iterator[Issue]:
    """Issues of an annotation file; no image is read.

    Args:
        content: what :func:`nl_detectron.data.coco.read_coco` returns.
    """
    yield from _check_categories(content)
    yield from _check_images(content)
    images = {image["id"]: image for image in whole_images(content)}
    categories = {category["id"]: category for category in content["categories"]}
    masks = any(a.get("segmentation") for a in content["annotations"])
    for annotation in content["annotations"]:
        for kind in check_annotation(annotation, images, categories, masks):
            yield kind, _place(annotation, images)
    whole = [a for a in content["annotations"] if _is_whole(a)]
    for number in _repeated(a["id"] for a in whole):
        yield "annotation id twice", f"annotation {number}"
    same = ((a["image_id"], a["category_id"], str(a["bbox"])) for a in whole)
    for image, category, box in _repeated(same):
        yield "annotation twice", f"image {image}, category {category}, box {box}"


def check_files(content: dict, folder: str | os.PathLike) -> Iterator[Issue]:
    """Issues of the image files, which are read as in training. Shows a progress bar."""
    images = whole_images(content)
    paths = [os.path.join(folder, image["file_name"]) for image in images]
    sizes = [(image["height"], image["width"]) for image in images]
    with ThreadPoolExecutor() as pool:  # Pillow releases the GIL while it decodes
        kinds = pool.map(_check_file, paths, sizes)
        # disable=None: no bar without a terminal
        bar = tqdm(kinds, "images", len(images), unit="image", disable=None)
        for image, kind in zip(images, bar, strict=True):
            if kind:
                yield kind, image["file_name"]


def check_annotation(
    annotation: dict, images: dict, categories: dict, masks: bool
) -> Iterator[str]:
    """Names of the issue types of a single annotation.

    Args:
        images, categories: entries of the file by id.
        masks: whether the file has masks, so that every annotation needs one.
    """
    if not _is_whole(annotation):
        yield "incomplete annotation"
        return
    image, category = (
        images.get(annotation["image_id"]),
        categories.get(annotation["category_id"]),
    )
    if annotation["id"] == 0:
        yield "annotation id 0"
    if annotation.get("ignore"):
        yield "ignore is set"
    if not {"area", "iscrowd"} <= annotation.keys():
        yield "no area or iscrowd"
    if category is None:
        yield "unknown category"
    if image is None:
        yield "unknown image"
    if image is None or category is None:
        return
    size = image["height"], image["width"]
    yield from _check_box(annotation["bbox"], *size)
    if masks:
        yield from _check_mask(annotation.get("segmentation"), *size)
    yield from _check_keypoints(annotation, len(category.get("keypoints") or ()), *size)


def whole_images(content: dict) -> list[dict]:
    """Image entries that have an id, a file name and a size."""
    return [
        image
        for image in content["images"]
        if isinstance(image.get("id"), int | str)
        and isinstance(image.get("file_name"), str)
        and all(isinstance(image.get(side), int) for side in ("height", "width"))
    ]


def _check_categories(content: dict) -> Iterator[Issue]:
    categories = content["categories"]
    for number in _repeated(c["id"] for c in categories):
        yield "class id twice", f"category {number}"
    for name in _repeated(c["name"] for c in categories):
        yield "class name twice", f"class {name!r}"
    used = {a["category_id"] for a in content["annotations"] if _is_whole(a)}
    with_keypoints = [c["keypoints"] for c in categories if c.get("keypoints")]
    for category in categories:
        place, names = f"class {category['name']!r}", category.get("keypoints") or []
        if category["id"] not in used:
            yield "class without annotations", place
        elif with_keypoints and names != with_keypoints[0]:
            yield "keypoints differ", place
        if len(set(names)) < len(names):
            yield "keypoint name twice", place
        if not sound_skeleton(names, category.get("skeleton") or []):
            yield "broken skeleton", place


def _check_images(content: dict) -> Iterator[Issue]:
    whole = whole_images(content)
    known = {id(image) for image in whole}
    for number, image in enumerate(content["images"]):
        if id(image) not in known:
            yield "incomplete image", f"images[{number}]"
    for number in _repeated(image["id"] for image in whole):
        yield "image id twice", f"image {number}"
    for name in _repeated(image["file_name"] for image in whole):
        yield "image file twice", name
    annotated = {a["image_id"] for a in content["annotations"] if _is_whole(a)}
    if not annotated & {image["id"] for image in whole}:
        yield "nothing annotated", "the whole file"
        return
    for image in whole:
        if image["id"] not in annotated:
            yield "image without annotations", image["file_name"]


def _check_file(path: str, size: tuple[int, int]) -> str | None:
    if not PathManager.isfile(path):
        return "missing image"
    try:
        actual = read_image(path, "BGR").shape[:2]
    except Exception:  # Pillow's formats raise different types
        return "unreadable image"
    if actual == size:
        return None
    return "width and height swapped" if actual == size[::-1] else "wrong image size"


def _check_box(box: object, height: int, width: int) -> Iterator[str]:
    if not (isinstance(box, list) and len(box) == 4 and _are_numbers(box)):
        yield "malformed box"
        return
    x, y, w, h = box
    if w <= 0 or h <= 0:
        yield "empty box"
    elif min(x, y) < -SLACK or x + w > width + SLACK or y + h > height + SLACK:
        yield "box outside its image"


def _check_mask(mask: object, height: int, width: int) -> Iterator[str]:
    if not mask:
        yield "no mask"
    elif isinstance(mask, dict):
        if not {"counts", "size"} <= mask.keys():
            yield "malformed mask"
        elif mask["size"] != [height, width]:
            yield "mask of another size"
    elif isinstance(mask, list) and all(isinstance(p, list) and _are_numbers(p) for p in mask):
        if len(mask[0]) < 6:
            yield "first polygon without 3 points"
        if not all(is_polygon(p) for p in mask):
            yield "broken polygon"
        if any(is_polygon(p) and not _area(p) for p in mask):
            yield "flat polygon"
    else:
        yield "malformed mask"


def _check_keypoints(annotation: dict, count: int, height: int, width: int) -> Iterator[str]:
    points = annotation.get("keypoints")
    if not count:
        if points:
            yield "keypoints without names"
        return
    if not points:
        yield "no keypoints"
        return
    if not (isinstance(points, list) and len(points) == 3 * count and _are_numbers(points)):
        yield "keypoint count"
        return
    labelled = [(x, y) for x, y, v in zip(*[iter(points)] * 3, strict=True) if v > 0]
    if any(
        min(x, y) < -SLACK or x > width - 1 + SLACK or y > height - 1 + SLACK for x, y in labelled
    ):
        yield "keypoint outside its image"
    if "num_keypoints" not in annotation:
        yield "no num_keypoints"
    elif annotation["num_keypoints"] != len(labelled):
        yield "wrong num_keypoints"


def is_polygon(numbers: list) -> bool:
    """Whether a list of numbers is at least three points x, y, as Detectron2 requires."""
    return len(numbers) >= 6 and len(numbers) % 2 == 0


def _area(polygon: list) -> float:
    """Area of a polygon by the shoelace formula."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    ends = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in ends)) / 2


def _is_whole(annotation: dict) -> bool:
    keys = ("id", "image_id", "category_id")
    known = all(isinstance(annotation.get(key), int | str) for key in keys)
    return known and bool(annotation.get("bbox"))


def _are_numbers(values: list) -> bool:
    return all(isinstance(v, int | float) and math.isfinite(v) for v in values)


def _repeated(values: Iterable[Hashable]) -> list:
    return [value for value, count in Counter(values).items() if count > 1]


def _place(annotation: dict, images: dict) -> str:
    image = annotation.get("image_id")
    known = images.get(image) if isinstance(image, int | str) else None
    where = known["file_name"] if known else f"image {image}"
    return f"annotation {annotation.get('id')} of {where}"
