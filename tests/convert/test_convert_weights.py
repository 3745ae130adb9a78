"""The command line of tools/convert_weights.py."""

import pytest
import torch
from block_equations import EMBEDDED
from source_checkpoints import slowfast_block

from nl_detectron.errors import UsageError
from nl_detectron_cli.programs.convert import main, parse_arguments, parse_places


def test_nothing_is_overwritten(tmp_path):
    torch.save(slowfast_block(), tmp_path / "theirs.pth")
    words = ["--source", "slowfast", "--input", str(tmp_path / "theirs.pth"), "--output"]
    for output in ("theirs.pth", "nowhere/ours.pth", "ours.pkl"):
        with pytest.raises(UsageError, match="expected a new file"):
            main([*words, str(tmp_path / output)])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["res4.4"], {"": "res4.4"}),
        (["a.b=res4.4", "c=res3.1"], {"a.b": "res4.4", "c": "res3.1"}),
    ],
)
def test_places_are_read(words, expected):
    assert parse_places(words) == expected


def test_a_block_placed_twice_is_reported():
    with pytest.raises(UsageError, match="each block once"):
        parse_places(["a=res4.4", "a=res3.1"])


def test_a_pool_is_read_as_their_config_has_it():
    words = ["--source", "slowfast", "--input", "a", "--output", "b.pth", "--pool"]
    assert parse_arguments([*words, "1,2,2"]).pool == (1, 2, 2)
    assert parse_arguments([*words, "[1, 2, 2]"]).pool == (1, 2, 2)


def test_a_pool_that_is_not_here_is_refused(tmp_path):
    torch.save(slowfast_block(), tmp_path / "theirs.pth")
    words = ["--source", "slowfast", "--input", str(tmp_path / "theirs.pth")]
    words += ["--output", str(tmp_path / "ours.pth"), "--pairwise", EMBEDDED, "--pool", "1,3,3"]
    with pytest.raises(UsageError, match=r"pool: expected 1,2,2 or 1,1,1 .*, got 1,3,3"):
        main(words)
    assert not (tmp_path / "ours.pth").exists()
