"""Whole video models: what an option changes, what is left, and parts that do not fit."""

import pytest
import torch
from video_networks import FIVE, Network

from nl_detectron.convert import convert_video
from nl_detectron.convert.model import COUNTERS
from nl_detectron.errors import UsageError


@pytest.fixture
def tensors():
    """The tensors of the authors' I3D without non-local blocks."""
    return Network("caffe2", places=()).make()


@pytest.fixture
def with_blocks():
    return Network("caffe2").make()


def test_counters_of_batches_are_left():
    tensors = Network("slowfast", places=()).make()
    name = "s1.pathway0_stem.bn.num_batches_tracked"
    found = convert_video({**tensors, name: torch.tensor(7)}, "slowfast", (8, 8))
    assert found.left == {name: COUNTERS}
    assert found.model["backbone.stem.conv1.norm.num_batches_tracked"] == 0


def test_slowfasts_pool_of_one_position_is_none():
    """Also where its names are Caffe2's, whose config has no kernel."""
    tensors = Network("slowfast", "caffe2").make()
    for pool, subsample in (((1, 1, 1), "none"), ((1, 2, 2), "before")):
        found = convert_video(tensors, "slowfast", (8, 8), pool=pool)
        assert found.config["MODEL"]["NONLOCAL"]["SUBSAMPLE"] == subsample


def test_blocks_may_be_placed_by_hand(with_blocks):
    places = {f"nonlocal_conv{stage}_{number}": f"res{stage}.{number}" for stage, number in FIVE}
    places["nonlocal_conv4_5"] = "res4.2"
    found = convert_video(with_blocks, "caffe2", (8, 8), places=places)
    assert found.blocks["nonlocal_conv4_5"] == "backbone.res4.nonlocal2"
    after = found.config["MODEL"]["NONLOCAL"]["BACKBONE"]["AFTER"]
    assert after == ["res3.1", "res3.3", "res4.1", "res4.2", "res4.3"]


@pytest.mark.parametrize(
    "options", [{"pairwise": "dot_product"}, {"places": {"": "res4.4"}}], ids=["fact", "place"]
)
def test_an_option_about_blocks_needs_some(tensors, options):
    with pytest.raises(UsageError, match="there are no non-local blocks, which an option given is"):
        convert_video(tensors, "caffe2", (8, 8), **options)


def test_a_block_without_a_place_is_missed(with_blocks):
    with pytest.raises(UsageError, match=r"give a place for nonlocal_conv3_1, .*conv4_5 too"):
        convert_video(with_blocks, "caffe2", (8, 8), places={"nonlocal_conv3_3": "res3.3"})


def test_a_block_of_other_shapes_is_named(with_blocks):
    name = "nonlocal_conv4_1_theta_w"
    with_blocks[name] = with_blocks[name][:3]
    with pytest.raises(UsageError, match=r"block 'nonlocal_conv4_1': theta\.weight: expected \("):
        convert_video(with_blocks, "caffe2", (8, 8))


def test_a_tensor_that_the_model_has_not_is_named(tensors):
    tensors["res2_1_branch1_w"] = torch.ones(32, 32, 1, 1, 1)  # only first blocks have shortcuts
    with pytest.raises(UsageError, match=r"no such tensors \(1\): backbone\.res2\.1\.shortcut\.w"):
        convert_video(tensors, "caffe2", (8, 8))
