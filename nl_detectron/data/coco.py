"""COCO's annotation format: a file of it, or in what it is none."""

import json
import os

from detectron2.utils.file_io import PathManager

LISTS = ("images", "annotations", "categories")


def read_coco(path: str | os.PathLike) -> dict:
    """The content of a JSON file with COCO's three lists of objects.

    There are images and categories, and each category has an id and a name. The rest may be
    anything: :mod:`.check` tells what is wrong with it.

    Raises:
        ValueError: a file that is not there, cannot be read, or is not COCO's.
    """
    if not PathManager.isfile(str(path)):
        raise ValueError(f"annotations {path}: there is no such file")
    try:
        with PathManager.open(str(path), encoding="utf-8") as file:
            content = json.load(file)
    except (OSError, ValueError) as error:  # of JSON, of its encoding
        raise ValueError(f"annotations {path} cannot be read as JSON: {error}") from error
    wrong = _wrong(content)
    if wrong:
        raise ValueError(
            f"annotations {path} are not in COCO's format: expected an object with the lists "
            f"{', '.join(LISTS)}, but {wrong}"
        )
    return content


def _wrong(content: object) -> str:
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    lacking = [name for name in LISTS if name not in content]
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    for name in LISTS:
        entries = content[name]
        if not (isinstance(entries, list) and all(isinstance(e, dict) for e in entries)):
            return f"{name} is no list of objects"
        if not entries and name != "annotations":
            return f"{name} is empty"
    for category in content["categories"]:
        names = category.get("keypoints") or []
        if not (isinstance(category.get("id"), int) and isinstance(category.get("name"), str)):
            return f"a category lacks its id, a whole number, or its name: {category}"
        if not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
            return f"the keypoints of category {category['name']!r} are no list of names"
    return ""
