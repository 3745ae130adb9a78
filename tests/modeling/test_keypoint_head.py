"""The keypoint head with blocks: their places among its layers, and what it refuses."""

import pytest
import torch
from detectron2.layers import ShapeSpec

from nl_detectron.config import default_block
from nl_detectron.modeling import NonLocalKeypointHead, find_blocks


def make_head(after, convs=8, **options):
    return NonLocalKeypointHead(
        ShapeSpec(channels=16),
        num_keypoints=17,
        conv_dims=[8] * convs,
        after=after,
        block={**default_block(), **options},
    )


@pytest.mark.parametrize("after", [[2, 4, 6, 8], [1], [8, 1]])
def test_head_blocks_follow_their_convs_relu(after):
    head = make_head(after)
    expected = []
    for i in range(1, 9):
        expected += [f"conv_fcn{i}", f"conv_fcn_relu{i}"]
        expected += [f"nonlocal{i}"] if i in after else []
    assert [name for name, _ in head.named_children()] == [*expected, "score_lowres"]

    ran = []
    for name, child in head.named_children():
        child.register_forward_hook(lambda *_, name=name: ran.append(name))
    assert head.layers(torch.randn(2, 16, 4, 4)).shape == (2, 17, 16, 16)
    assert ran == [*expected, "score_lowres"]


def test_heads_own_init_leaves_the_blocks_identities():
    # Detectron2's head gives every parameter that it finds He's init: W_z must come later.
    for block in find_blocks(make_head([2, 4, 6, 8])).values():
        assert not block.w_z.weight.any()
        assert block.theta.weight.std().item() == pytest.approx(0.01, rel=0.5)
    for block in find_blocks(make_head([2, 4], norm="LN")).values():
        assert not block.norm.weight.any()


@pytest.mark.parametrize("conv", [0, 9, -1, "2", 2.0, None])
def test_convs_that_do_not_exist_are_refused(conv):
    with pytest.raises(ValueError, match=f"there is no conv {conv!r}; this head has 1 to 8"):
        make_head([4, conv])


def test_head_without_or_with_doubled_convs_is_refused():
    with pytest.raises(ValueError, match=r"KEYPOINT_HEAD.AFTER is empty.*a baseline.*1 to 8"):
        make_head([])
    with pytest.raises(ValueError, match=r"more than once in \[2, 4, 2\]"):
        make_head([2, 4, 2])


def test_a_norm_that_needs_rois_in_every_process_is_refused_in_a_head():
    with pytest.raises(ValueError, match=r"naiveSyncBN would stop in the keypoint head.*BN_N"):
        make_head([2], norm="naiveSyncBN")
    make_head([2], norm="naiveSyncBN_N")
