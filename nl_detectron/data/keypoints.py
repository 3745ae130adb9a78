"""Left and right pairs among keypoints, by their names, and lines to draw between keypoints."""

import re
from collections.abc import Sequence

from detectron2.utils.colormap import colormap

OTHER_SIDE = {"left": "right", "right": "left", "l": "r", "r": "l"}
# parts of left_eye, eye-L, LeftEye, LEye, eye2
WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")


def flip_pairs(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that differ only in their side, each once: Detectron2's keypoint_flip_map."""
    known = {_words(name): name for name in names}
    partners = {name: known.get(_mirrored(name)) for name in names}
    return [
        (name, partner)
        for i, (name, partner) in enumerate(partners.items())
        if partner is not None and partner in names[i + 1 :]
    ]


def unpaired(names: Sequence[str]) -> list[str]:
    """Names that have a side, but no partner on the other side."""
    paired = {name for pair in flip_pairs(names) for name in pair}
    return [n for n in names if _mirrored(n) != _words(n) and n not in paired]


def connection_rules(
    names: Sequence[str], skeleton: Sequence[Sequence[int]]
) -> list[tuple[str, str, tuple[int, int, int]]]:
    """Lines between keypoints and their colours: Detectron2's keypoint_connection_rules.

    Args:
        names: names of the keypoints.
        skeleton: pairs of keypoints, counted from 1 as in COCO. If any of them is not such a pair,
            there are no lines: they may be counted from 0, and all would be wrong.
    """
    if not sound_skeleton(names, skeleton):
        return []
    colours = colormap(rgb=True).astype(int).tolist()
    return [
        (names[a - 1], names[b - 1], tuple(colours[i % len(colours)]))
        for i, (a, b) in enumerate(skeleton)
    ]


def sound_skeleton(names: Sequence[str], skeleton: object) -> bool:
    """Whether ``skeleton`` is a list of pairs of numbers from 1 to the number of names."""
    return isinstance(skeleton, list | tuple) and all(
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(end, int) and 1 <= end <= len(names) for end in pair)
        for pair in skeleton
    )


def _words(name: str) -> tuple[str, ...]:
    return tuple(word.lower() for word in WORD.findall(name))


def _mirrored(name: str) -> tuple[str, ...]:
    return tuple(OTHER_SIDE.get(word, word) for word in _words(name))
