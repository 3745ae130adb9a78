"""Reading annotation files in COCO's format."""

import json
import os

from detectron2.utils.file_io import PathManager

from .validation.values import is_id, is_integer, is_nested_deeper, is_text, show

LISTS = ("images", "annotations", "categories")
DEEPEST = 50  # levels of lists and objects outside images and annotations; they are copied whole


def read_coco(path: str | os.PathLike) -> dict:
    """Read a JSON file with COCO's three lists of objects: images, annotations and categories.

    Images and categories are not empty, and each category has an id and a name. Nothing else is
    checked here; :mod:`.validation.checks` finds further issues.

    Raises:
        ValueError: the file does not exist, cannot be read, or is not in COCO's format.
    """
    if not PathManager.isfile(str(path)):
        if os.path.isdir(path):
            raise ValueError(f"annotations {path} is a folder: give the JSON file in it")
        raise ValueError(f"annotations {path}: there is no such file")
    try:
        with PathManager.open(str(path), encoding="utf-8") as file:
            content = json.load(file)
    except RecursionError as error:
        raise ValueError(f"annotations {path} are nested too deeply") from error
    except (OSError, ValueError) as error:  # ValueError: not JSON, or not UTF-8
        raise ValueError(f"annotations {path} cannot be read as JSON: {error}") from error
    problem = _find_problem(content)
    if problem:
        raise ValueError(
            f"annotations {path} are not in COCO's format: expected an object with the lists "
            f"{', '.join(LISTS)}, but {problem}"
        )
    return content


def _find_problem(content: object) -> str:
    """The first difference from COCO's format, as the end of a message; "" if there is none."""
    if not isinstance(content, dict):
        return f"it holds a {type(content).__name__}"
    lacking = [name for name in LISTS if name not in content]
    if lacking:
        return f"it lacks {', '.join(lacking)}"
    for name in LISTS:
        entries = content[name]
        if not (isinstance(entries, list) and all(isinstance(e, dict) for e in entries)):
            return f"{name} is not a list of objects"
        if not entries and name != "annotations":
            return f"{name} is empty"
    rest = {k: v for k, v in content.items() if k not in ("images", "annotations")}
    if is_nested_deeper(rest, DEEPEST):
        return "it is nested too deeply"
    for category in content["categories"]:
        names = category.get("keypoints") or []
        number = category.get("id")
        if not (is_integer(number) and is_id(number) and is_text(category.get("name"))):
            return f"a category lacks an integer id or a name: {show(category)}"
        if not (isinstance(names, list) and all(map(is_text, names))):
            return f"the keypoints of category {show(category['name'])!r} are not a list of names"
    return ""
