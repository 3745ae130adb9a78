"""Conditions on the values of config keys, each in words and as a function."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple


class Condition(NamedTuple):
    """What a value must be, in words and as a function."""

    expected: str
    holds: Callable[[Any], bool]


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and math.isfinite(value)


def _is_list(value: Any, of: Callable[[Any], bool], least: int = 1) -> bool:
    return isinstance(value, list | tuple) and len(value) >= least and all(map(of, value))


def integer(low: int) -> Condition:
    expected = "an integer above 0" if low == 1 else f"an integer of {low} or more"
    return Condition(expected, lambda value: _is_integer(value) and low <= value < 2**53)


def number(low: float, high: float) -> Condition:
    expected = f"a number of {low:g} to {high:g}"
    return Condition(expected, lambda value: _is_number(value) and low <= value <= high)


def one_of(*names: str) -> Condition:
    return Condition(f"one of {', '.join(names)}", lambda value: value in names)


def _sizes_of_levels(value: Any) -> bool:
    return _is_list(value, lambda level: _is_list(level, lambda n: _is_number(n) and n > 0))


def _is_result(row: Any) -> bool:
    if not isinstance(row, list | tuple) or len(row) != 4:
        return False
    return all(isinstance(text, str) for text in row[:2]) and all(map(_is_number, row[2:]))


COUNT, WHOLE, SHARE = integer(1), integer(0), number(0, 1)
# Building more layers would take hours before anything is said.
LAYERS = Condition("an integer of 0 to 1,000", lambda v: _is_integer(v) and 0 <= v <= 1000)
RATE = number(0, 1e6)
RATE_ABOVE_0 = Condition("a number above 0", lambda v: _is_number(v) and 0 < v <= 1e6)
RATE_OR_NONE = Condition(f"{RATE.expected}, or None", lambda v: v is None or RATE.holds(v))
FLAG = Condition("True or False", lambda value: isinstance(value, bool))
TEXT = Condition("a string", lambda value: isinstance(value, str))
DEVICE = Condition(
    "cpu, cuda or cuda:NUMBER",
    lambda value: isinstance(value, str) and bool(re.fullmatch(r"cpu|cuda(:\d+)?", value)),
)
ANCHORS = Condition("a list with a list of numbers above 0 for each level", _sizes_of_levels)
NUMBERS = Condition("a list of numbers", lambda value: _is_list(value, _is_number))
POSITIVE = Condition(
    "a list of numbers above 0", lambda value: _is_list(value, lambda n: _is_number(n) and n > 0)
)
SIGMAS = Condition(
    "a list of numbers above 0, or []",
    lambda value: _is_list(value, lambda n: _is_number(n) and n > 0, least=0),
)
SIDES = Condition(
    "one or more integers of 0 (the image's own size) or more",
    lambda value: _is_list([value] if _is_integer(value) else value, WHOLE.holds),
)
NAMES = Condition(
    "a list of names", lambda value: _is_list(value, lambda name: isinstance(name, str), least=0)
)
STEPS = Condition(
    "a list of increasing integers of 0 or more, or ()",
    lambda value: _is_list(value, WHOLE.holds, least=0) and sorted(value) == list(value),
)
SEED = Condition("an integer, negative for a random seed", lambda v: _is_integer(v) and v < 2**31)
SIZE_PAIR = Condition(
    "two numbers above 0", lambda value: POSITIVE.holds(value) and len(value) == 2
)
ONE_OR_THREE = Condition("1 or 3", lambda value: _is_integer(value) and value in (1, 3))
FOUR = Condition(
    "four numbers above 0 (five for rotated boxes)",
    lambda value: POSITIVE.holds(value) and len(value) in (4, 5),
)
COUNTS = Condition("a list of integers above 0", lambda value: _is_list(value, COUNT.holds))
DIMS = Condition(
    "a list of integers above 0, or -1 for the input's",
    lambda value: _is_list(value, lambda n: n == -1 or COUNT.holds(n), least=0),
)
NORM = Condition(
    "a number above 0, or inf",
    lambda value: isinstance(value, int | float) and not isinstance(value, bool) and value > 0,
)
RESULTS = Condition(
    "a list of [task, metric, value, tolerance]",
    lambda value: _is_list(value, _is_result, least=0),
)
BOX_LOSS = one_of("smooth_l1", "giou", "diou", "ciou")
