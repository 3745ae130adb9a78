"""Where blocks from elsewhere go, and what is not taken over."""

import pytest
import torch
from source_checkpoints import CAFFE2, MMCV, SLOWFAST, mmcv_block, slowfast_block

from nl_detectron.convert import convert
from nl_detectron.errors import UsageError


def test_a_block_without_a_place_goes_where_it_is_reported():
    for name in ("", "model.attention."):
        found = convert(mmcv_block(name), "mmcv", places={"": "res3.2"}, **MMCV)
        assert list(found.blocks.values()) == ["backbone.bottom_up.res3.nonlocal2"]


def test_blocks_that_are_not_named_are_left():
    tensors = slowfast_block() | slowfast_block("s3.pathway0_nonlocal1")
    found = convert(tensors, "slowfast", places={"s4.pathway0_nonlocal5": "res4.4"}, **SLOWFAST)
    assert list(found.blocks) == ["s4.pathway0_nonlocal5"]
    assert found.config["MODEL"]["NONLOCAL"]["BACKBONE"]["AFTER"] == ["res4.4"]
    assert set(found.left) == set(slowfast_block("s3.pathway0_nonlocal1"))
    assert set(found.left.values()) == {"not selected by --place"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"s5.pathway0_res0.branch2.a.weight": torch.ones(2, 2, 3, 1, 1)}, "kernel over 3 frames"),
        ({"s1_fuse.conv_f2s.weight": torch.ones(2, 2, 5, 1, 1)}, "nothing like s1_fuse.conv_f2s"),
        ({"s4.pathway1_res0.branch2.a.weight": torch.ones(2, 2, 1, 1, 1)}, "s4.pathway1_res0"),
    ],
)
def test_a_resnet_of_videos_is_left_as_a_whole(more, reason):
    of_images = {"s1.pathway0_stem.conv.weight": torch.ones(8, 3, 1, 7, 7)}
    assert convert(slowfast_block() | of_images, "slowfast", **SLOWFAST).resnet
    found = convert(slowfast_block() | of_images | more, "slowfast", **SLOWFAST)
    assert not found.resnet
    assert set(found.left) == {*of_images, *more}
    assert all(reason in why for why in found.left.values())


@pytest.mark.parametrize(
    ("source", "tensors", "more", "message"),
    [
        ("caffe2", slowfast_block(), {}, "no non-local block of caffe2 among 12 tensors"),
        ("mmcv", mmcv_block("backbone.layer3.4.nonlocal_block_2."), {}, "inside a residual block"),
        ("mmcv", mmcv_block("neck.1.refine."), {}, "BFP"),
        ("mmcv", mmcv_block("neck.1.refine."), {"places": {"": "res2.0"}}, "BFP"),
        ("mmcv", mmcv_block(""), {}, "'' does not show where .* --place res4.4"),
        (
            "mmcv",
            mmcv_block("a.") | mmcv_block("b."),
            {},
            "'a' does not show where .* --place a=res4.4",
        ),
        (
            "mmcv",
            mmcv_block("a.") | mmcv_block("b."),
            {"places": {"": "res4.4"}},
            "no block ''.* a, b",
        ),
        ("slowfast", slowfast_block(), {"places": {"": "res4.-2"}}, "counted from 0.* 'res4.-2'"),
        (
            "slowfast",
            slowfast_block(),
            {"places": {"": "res6.0"}},
            "expected a residual block.* 'res6.0'",
        ),
        (
            "slowfast",
            slowfast_block(),
            {"places": {"s4": "res4.4"}},
            "no block 's4'.* s4.pathway0_nonlocal5",
        ),
        (
            "mmcv",
            mmcv_block("a.") | mmcv_block("b."),
            {"places": {"a": "res4.4", "b": "res4.4"}},
            "more than one block follows res4.4",
        ),
        (
            "slowfast",
            slowfast_block() | slowfast_block("s3.pathway0_nonlocal1", norm=""),
            {},
            "one config .* differ",
        ),
        ("slowfast", slowfast_block(inner=5), {}, "5 inner channels of 8"),
        ("slowfast", slowfast_block("s4.pathway1_nonlocal5"), {}, "does not show where"),
    ],
)
def test_what_has_no_place_here_is_refused(source, tensors, more, message):
    said = {"mmcv": MMCV, "slowfast": SLOWFAST, "caffe2": CAFFE2}[source]
    with pytest.raises(UsageError, match=message):
        convert(tensors, source, **said, **more)
