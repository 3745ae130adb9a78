"""Parametrizations of which ``make test-fast`` takes a part; the other cases are marked slow."""

from collections.abc import Iterable
from itertools import product

import pytest


def first_cases(count: int, names: str, cases: Iterable, **options) -> pytest.MarkDecorator:
    """``pytest.mark.parametrize``, where all cases but the first ``count`` are slow."""
    several = "," in names
    marked = [case if number < count else _slow(case, several) for number, case in enumerate(cases)]
    return pytest.mark.parametrize(names, marked, **options)


def combinations(**values: Iterable) -> pytest.MarkDecorator:
    """Parametrize by all combinations of the arguments' values; those that differ from the first
    one in more than one argument are slow."""
    lists = [list(one) for one in values.values()]
    marked = []
    for places in product(*(range(len(one)) for one in lists)):
        case = tuple(one[place] for one, place in zip(lists, places, strict=True))
        marked.append(_slow(case, True) if sum(map(bool, places)) > 1 else pytest.param(*case))
    return pytest.mark.parametrize(",".join(values), marked)


def _slow(case, several: bool):
    if isinstance(case, type(pytest.param())):
        return pytest.param(*case.values, marks=[*case.marks, pytest.mark.slow], id=case.id)
    return pytest.param(*(case if several else (case,)), marks=pytest.mark.slow)
