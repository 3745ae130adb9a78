"""What values of an annotation file may be: ids, numbers, file names and masks."""

import os
from collections.abc import Iterator
from reprlib import Repr

LARGEST_ID = 2**53  # evaluation stores ids as doubles
LARGEST = 1e9  # coordinates and areas in pixels

_short = Repr()
_short.maxstring = _short.maxother = 200


def is_integer(value: object) -> bool:
    """Whether a value is an integer and neither true nor false."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_id(value: object) -> bool:
    """Whether a value is an id: a string, or an integer that a double holds exactly."""
    return isinstance(value, str) or (is_integer(value) and abs(value) <= LARGEST_ID)  # pyright: ignore


def is_number(value: object) -> bool:
    """Whether a value is a finite number of a possible size in pixels."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= LARGEST  # False for NaN


def are_numbers(values: object) -> bool:
    """Whether a value is a list of numbers as :func:`is_number` has them."""
    return isinstance(values, list) and all(map(is_number, values))


def is_text(value: object) -> bool:
    """Whether a value is a string that can be printed and written, which lone surrogates cannot."""
    if not isinstance(value, str):
        return False
    try:
        return bool(value.encode())
    except UnicodeEncodeError:
        return False


def is_file_name(value: object) -> bool:
    """Whether a value can name a file."""
    return is_text(value) and "\0" not in str(value)


def leaves_folder(file_name: str) -> bool:
    """Whether a file name is absolute, or its ``..`` lead out of the image folder."""
    first = os.path.normpath(file_name).split(os.sep)[0]
    return os.path.isabs(file_name) or first == os.pardir


def is_polygon(numbers: list) -> bool:
    """Whether a list of numbers is at least three points x, y, as Detectron2 requires."""
    return len(numbers) >= 6 and len(numbers) % 2 == 0


def polygon_area(polygon: list) -> float:
    """Area of a polygon by the shoelace formula."""
    points = list(zip(polygon[::2], polygon[1::2], strict=True))
    ends = zip(points, points[1:] + points[:1], strict=True)
    return abs(sum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in ends)) / 2


def is_rle_of(counts: object, pixels: int) -> bool:
    """Whether the counts of an RLE, as a list or in COCO's compressed form, cover a number of
    pixels. pycocotools reads and writes beyond its memory otherwise."""
    if isinstance(counts, list):
        runs = counts if all(map(is_integer, counts)) else [-1]
    elif isinstance(counts, str):
        try:
            runs = list(_decompress(counts))
        except ValueError:
            return False
    else:
        return False
    return all(0 <= run <= pixels for run in runs) and sum(runs) == pixels


def _decompress(text: str) -> Iterator[int]:
    """Counts of a compressed RLE, as ``rleFrString`` of pycocotools computes them.

    Raises:
        ValueError: the text is not one.
    """
    counts: list[int] = []
    at = 0
    while at < len(text):
        count, shift, more = 0, 0, True
        while more:
            if at == len(text) or not 48 <= ord(text[at]) < 112 or shift > 30:
                raise ValueError("not a compressed RLE")
            bits = ord(text[at]) - 48
            count |= (bits & 0x1F) << shift
            more, at, shift = bool(bits & 0x20), at + 1, shift + 5
            if not more and bits & 0x10:
                count -= 1 << shift
        if len(counts) > 2:
            count += counts[-2]
        counts.append(count)
        yield count


def show(value: object) -> str:
    """A value in a message: a string as it is, anything else as Python writes it; shortened."""
    text = value if isinstance(value, str) else _short.repr(value)
    return text.encode("utf-8", "backslashreplace").decode()[:200]


def is_nested_deeper(value: object, depth: int) -> bool:
    """Whether lists and objects are nested deeper than ``depth``; does not recurse itself."""
    level = [value]
    for _ in range(depth + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True
