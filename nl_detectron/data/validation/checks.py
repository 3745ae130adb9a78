"""Checks of a data set in COCO's format, so that its issues are found before training.

An issue is the name of its type in :data:`~.issues.ISSUE_TYPES` and its place: a class, an image or
an annotation. Coordinates are in pixels; boxes are x, y, width, height.
"""

import os
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from detectron2.utils.file_io import PathManager
from tqdm import tqdm

from ..images import read_image, read_size
from ..keypoints import sound_skeleton
from .issues import Issue
from .values import (
    are_numbers,
    is_file_name,
    is_id,
    is_integer,
    is_number,
    is_polygon,
    is_rle_of,
    leaves_folder,
    polygon_area,
    show,
)

SLACK = 1.0  # pixels that a box or a keypoint may lie outside: rounding
LONGEST = 1000  # longer side by the shorter one; INPUT.MAX_SIZE_TRAIN can leave 0 pixels beyond


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
    yield from _check_use(content["annotations"], images, categories)
    whole = [a for a in content["annotations"] if _is_whole(a)]
    for number in _repeated(a["id"] for a in whole):
        yield "annotation id twice", f"annotation {show(number)}"
    sound = [a for a in whole if are_numbers(a["bbox"])]
    same = ((a["image_id"], a["category_id"], tuple(a["bbox"])) for a in sound)
    for image, category, box in _repeated(same):
        place = f"image {show(image)}, category {show(category)}, box {show(list(box))}"
        yield "annotation twice", place


def check_files(content: dict, folder: str | os.PathLike) -> Iterator[Issue]:
    """Issues of the image files, which are read as in training. Shows a progress bar."""
    images = whole_images(content)
    paths = [os.path.join(folder, image["file_name"]) for image in images]
    sizes = [(image["height"], image["width"]) for image in images]
    with ThreadPoolExecutor() as pool:  # Pillow releases the GIL while it decodes
        kinds = pool.map(_check_file, paths, sizes)
        # disable=None: no bar without a terminal
        bar = tqdm(kinds, "images", len(images), unit="image", disable=None)
        for image, found in zip(images, bar, strict=True):
            for kind in found:
                yield kind, show(image["file_name"])


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
    if not is_integer(annotation["id"]):
        yield "id is no integer"
    if "ignore" in annotation and annotation["ignore"] != 0:
        yield "ignore is set"
    if not {"area", "iscrowd"} <= annotation.keys():
        yield "no area or iscrowd"
    if not (is_number(annotation.get("area", 0)) and annotation.get("area", 0) >= 0):
        yield "malformed area"
    if _crowd(annotation) not in (0, 1):
        yield "malformed iscrowd"
    if category is None:
        yield "unknown category"
    if image is None:
        yield "unknown image"
    if image is None or category is None:
        return
    size = image["height"], image["width"]
    yield from _check_box(annotation["bbox"], *size)
    if mask := annotation.get("segmentation"):
        yield from _check_mask(mask, *size)
    elif masks:
        yield "no mask"
    yield from _check_keypoints(annotation, len(category.get("keypoints") or ()), *size)


def whole_images(content: dict) -> list[dict]:
    """Image entries that have an id, a file name and a size."""
    return [
        image
        for image in content["images"]
        if is_id(image.get("id"))
        and is_file_name(image.get("file_name"))
        and all(is_integer(image.get(side)) for side in ("height", "width"))
    ]


def _check_categories(content: dict) -> Iterator[Issue]:
    categories = content["categories"]
    for number in _repeated(c["id"] for c in categories):
        yield "class id twice", f"category {number}"
    for name in _repeated(c["name"] for c in categories):
        yield "class name twice", f"class {show(name)!r}"
    used = {a["category_id"] for a in content["annotations"] if _is_whole(a)}
    with_keypoints = [c["keypoints"] for c in categories if c.get("keypoints")]
    for category in categories:
        place, names = f"class {show(category['name'])!r}", category.get("keypoints") or []
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
        yield "image id twice", f"image {show(number)}"
    for name in _repeated(image["file_name"] for image in whole):
        yield "image file twice", show(name)
    if len({type(image["id"]) for image in whole}) > 1:
        yield "image ids of two types", "the whole file"
    for image in whole:
        sides = sorted((image["height"], image["width"]))
        if sides[0] <= 0:
            yield "no image size", show(image["file_name"])
        elif sides[1] > LONGEST * sides[0]:
            yield "extreme image shape", show(image["file_name"])
        if leaves_folder(image["file_name"]):
            yield "image outside its folder", show(image["file_name"])


def _check_use(annotations: list[dict], images: dict, categories: dict) -> Iterator[Issue]:
    """Issues of images that training does not use."""
    annotated = {a["image_id"] for a in annotations if _is_whole(a)}
    used = [a for a in annotations if _is_whole(a) and _is_used(a) and a["image_id"] in images]
    if not used:
        yield "nothing annotated", "the whole file"
        return
    for key, image in images.items():
        if key not in annotated:
            yield "image without annotations", show(image["file_name"])
    for key in sorted(annotated & images.keys() - {a["image_id"] for a in used}, key=str):
        yield "image of crowds alone", show(images[key]["file_name"])
    with_keypoints = any(category.get("keypoints") for category in categories.values())
    if with_keypoints and not any(map(_has_labelled_keypoint, annotations)):
        yield "no labelled keypoints", "the whole file"


def _check_file(path: str, size: tuple[int, int]) -> list[str]:
    if not PathManager.isfile(path):
        return ["missing image"]
    try:
        actual, deep = read_size(path)
        if actual == size:
            actual = read_image(path, "BGR").shape[:2]
    except Exception:  # Pillow's formats raise different types
        return ["unreadable image"]
    found = ["image of more than 8 bits"] if deep else []
    if actual != size:
        found += ["width and height swapped" if actual == size[::-1] else "wrong image size"]
    return found


def _check_box(box: Any, height: int, width: int) -> Iterator[str]:
    if not (are_numbers(box) and len(box) == 4):
        yield "malformed box"
        return
    x, y, w, h = box
    if w <= 0 or h <= 0:
        yield "empty box"
    elif min(x, y) < -SLACK or x + w > width + SLACK or y + h > height + SLACK:
        yield "box outside its image"


def _check_mask(mask: Any, height: int, width: int) -> Iterator[str]:
    """Issues of a mask that is not missing."""
    if isinstance(mask, dict):
        size: Any = mask.get("size")
        counts = mask.get("counts")
        pair = are_numbers(size) and len(size) == 2 and all(is_integer(n) and n > 0 for n in size)
        if "counts" not in mask:
            yield "malformed mask"
        elif not (pair and is_rle_of(counts, size[0] * size[1])):
            yield "malformed RLE"
        elif size != [height, width]:
            yield "mask of another size"
    elif isinstance(mask, list) and all(map(are_numbers, mask)):
        if len(mask[0]) < 6:
            yield "first polygon without 3 points"
        if not all(map(is_polygon, mask)):
            yield "broken polygon"
        if any(is_polygon(p) and not polygon_area(p) for p in mask):
            yield "flat polygon"
        far = max(height, width)
        if any(not -far <= number <= 2 * far for polygon in mask for number in polygon):
            yield "mask far outside its image"
    else:
        yield "malformed mask"


def _check_keypoints(annotation: dict, count: int, height: int, width: int) -> Iterator[str]:
    points = annotation.get("keypoints")
    if points and not are_numbers(points):
        yield "malformed keypoints"
        return
    if not count:
        if points:
            yield "keypoints without names"
        return
    if not points:
        yield "no keypoints"
        return
    if len(points) != 3 * count:
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


def _is_whole(annotation: dict) -> bool:
    keys = ("id", "image_id", "category_id")
    return all(is_id(annotation.get(key)) for key in keys) and bool(annotation.get("bbox"))


def _crowd(annotation: dict) -> object:
    """The value of iscrowd, which is 0 where it is missing; None for what is no number."""
    value = annotation.get("iscrowd", 0)
    return value if isinstance(value, int | float) else None


def _is_used(annotation: dict) -> bool:
    """Whether training uses an annotation: no crowd, and not all of its polygons are broken."""
    mask = annotation.get("segmentation")
    polygons = [p for p in mask if isinstance(p, list)] if isinstance(mask, list) else []
    return _crowd(annotation) == 0 and (not polygons or any(map(is_polygon, polygons)))


def _has_labelled_keypoint(annotation: dict) -> bool:
    points = annotation.get("keypoints")
    return bool(points) and are_numbers(points) and any(v > 0 for v in points[2::3])


def _repeated(values: Iterable[Hashable]) -> list:
    return [value for value, count in Counter(values).items() if count > 1]


def _place(annotation: dict, images: dict) -> str:
    image = annotation.get("image_id")
    known = images.get(image) if is_id(image) else None
    where = show(known["file_name"]) if known else f"image {show(image)}"
    return f"annotation {show(annotation.get('id'))} of {where}"
