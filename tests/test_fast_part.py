"""All cases of a test are there, and ``make test-fast`` takes a part of them."""

import pytest
from fast_part import combinations, first_cases


def marks(case) -> list[str]:
    return [mark.name for mark in case.marks]


def test_combinations_that_differ_in_more_than_one_argument_are_slow():
    names, cases = combinations(letter="ab", number=[1, 2, 3]).args
    assert names == "letter,number"
    assert [case.values for case in cases] == [(x, n) for x in "ab" for n in (1, 2, 3)]
    assert [case.values for case in cases if marks(case) == ["slow"]] == [("b", 2), ("b", 3)]
    fast = [case.values for case in cases if not marks(case)]
    assert fast == [("a", 1), ("a", 2), ("a", 3), ("b", 1)]


def test_cases_after_the_first_are_slow_and_keep_their_ids_and_marks():
    named = pytest.param((3, 4), marks=pytest.mark.gpu, id="third")
    names, (first, second, third) = first_cases(1, "pair", [(1, 2), (2, 3), named]).args
    assert names == "pair" and first == (1, 2)
    assert (second.values, marks(second)) == (((2, 3),), ["slow"])
    assert (third.values, marks(third), third.id) == (((3, 4),), ["gpu", "slow"], "third")


def test_a_case_may_be_of_several_arguments():
    _, (_, second) = first_cases(1, "a, b", [(1, 2), (3, 4)]).args
    assert (second.values, marks(second)) == ((3, 4), ["slow"])
