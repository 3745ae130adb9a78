"""Seeded changes of valid inputs: of JSON values, of bytes, and of config values."""

import copy
from typing import Any

import numpy as np

# what hand-made and converted annotation files have been seen to hold, and worse
ODD_VALUES = [
    *(None, True, False, 0, 1, -1, 2, 0.5, -3.5, 10**6, 1e8, 10**30, 1e300, -1e300),
    *(float("nan"), float("inf"), float("-inf"), "", "0", "a", "../a.png", "/etc/hostname"),
    *("\ud800", "x" * 3000, "a\0b", [], {}, [None], [[]], [[1, 2]], [1, 2, 3], {"a": 1}),
    *([0, 0, 0, 0], [1e300] * 6, [[1e300] * 6], [[float("nan")] * 6], ["1", "2", "3", "4"]),
    *({"counts": [1, 2], "size": [1, 3]}, {"counts": "abc", "size": [64, 128]}),
    *({"counts": [-1, 5], "size": [2, 2]}, {"counts": [8192], "size": [64, 128]}),
]
# by the type of the value that they replace, as a config refuses all others
ODD_CONFIG_VALUES = {
    bool: ["None", "True", "False"],
    int: ["None", "0", "1", "-1", "-7", "3", "1000000", "99999999999999999999"],
    float: ["None", "0.0", "-0.5", "1.0", "2.0", "1e-30", "1e30", "1e999", "-1e999"],
    str: ["None", "''", "'gpu'", "cpu", "cuda:99", "BN", "GN", "res4.-2", "'a b'", "../a"],
    list: [
        *("None", "()", "(1,)", "(-5,)", "(0.0,)", "(0.5, 0.5, 0.5)", "(None,)", "('a',)", "[[]]"),
        *("[[0]]", "[[1.0, 2.0]]", "[[32], [64]]", "[3, 2, 1]", "['res4']", "['res4.-2', 'x']"),
        *("[1e999]", "('relay_val',)", "[1, 2, 3, 4, 5]", "[[[1]]]", "[{}]"),
    ],
}
ODD_CONFIG_VALUES[tuple] = ODD_CONFIG_VALUES[list]


def mutate_content(content: Any, rng: np.random.Generator) -> Any:
    """A deep copy of JSON values with one to four changes at random places."""
    content = copy.deepcopy(content)
    for _ in range(min(rng.geometric(0.6), 4)):
        path = _random_path(content, rng)
        if path:
            _change(content, path, rng)
    return content


def _random_path(value: Any, rng: np.random.Generator) -> list:
    """Keys and indices to a random value, often in an annotation; few paths stop on the way."""
    path: list = []
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = keys[int(rng.integers(len(keys)))]
        if not path and "annotations" in keys and rng.random() < 0.7:
            key = "annotations"
        path.append(key)
        value = value[key]
        if rng.random() < 0.05:
            break
    return path


def _change(content: Any, path: list, rng: np.random.Generator) -> None:
    *outer, last = path
    parent = content
    for key in outer:
        parent = parent[key]
    value, kind = parent[last], rng.integers(8)
    if isinstance(value, int | float) and rng.random() < 0.5:
        kind = rng.integers(2, 4)  # a number remains one
    if kind == 0:
        del parent[last]
    elif kind == 1 and isinstance(parent, list):
        parent.append(copy.deepcopy(value))
    elif kind == 2 and isinstance(value, int | float) and not isinstance(value, bool):
        parent[last] = value * float(rng.choice([-1, 0, 0.5, 3, 1e6])) + int(rng.integers(-2, 3))
    elif kind == 3 and isinstance(value, int) and not isinstance(value, bool):
        parent[last] = value + int(rng.integers(-3, 4))
    elif kind == 4 and isinstance(value, list | str):
        parent[last] = value[: int(rng.integers(len(value) + 1))]
    elif kind == 5:
        other = content
        for key in _random_path(content, rng):
            other = other[key]
        parent[last] = copy.deepcopy(other) if other is not content else None
    else:
        parent[last] = copy.deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])


def mutate_bytes(data: bytes, rng: np.random.Generator) -> bytes:
    """A copy with one to four changes: bits, zeros, pieces left out, doubled or cut off."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 5)):
        if not changed:
            break
        # half of the changes are in the first 64 bytes, where formats have their headers
        end = len(changed) if rng.random() < 0.5 else min(len(changed), 64)
        at, kind = int(rng.integers(end)), rng.integers(6)
        length = int(rng.integers(1, 33))
        if kind == 0:
            changed[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            changed[at] = int(rng.integers(256))
        elif kind == 2:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        elif kind == 3:
            del changed[at : at + length]
        elif kind == 4:
            changed[at:at] = changed[at : at + length]
        else:
            del changed[at:]
    return bytes(changed)


def random_overrides(values: dict[str, Any], rng: np.random.Generator) -> list[str]:
    """One or two ``KEY VALUE`` overrides of random keys with odd values, mostly of the same type.

    Args:
        values: the config's values by key.
    """
    words, keys, kinds = [], list(values), list(ODD_CONFIG_VALUES)
    for _ in range(rng.integers(1, 3)):
        key = keys[int(rng.integers(len(keys)))]
        kind = type(values[key])
        if kind not in kinds or rng.random() < 0.1:
            kind = kinds[int(rng.integers(len(kinds)))]
        odd = ODD_CONFIG_VALUES[kind]
        words += [key, odd[int(rng.integers(len(odd)))]]
    return words
