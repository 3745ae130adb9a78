"""A checkpoint of other video blocks is an error, with the overrides that fit."""

import shlex

import pytest
from video_models import tiny_video_cfg

from nl_detectron.engine import build_on_meta, describe_run
from nl_detectron.engine.block_records import describe_blocks, find_mismatch

PLACES = ["BACKBONE.AFTER", "['res3.0','res4.0']"]
AXES, GROUPS = "MODEL.NONLOCAL.AXES", "MODEL.NONLOCAL.FRAMES_PER_GROUP"
# trained with, used with, part of the message and the overrides that fit
MISMATCHES = {
    "axes": (
        [*PLACES, "AXES", "time"],
        PLACES,
        "axes 'time', this model's 'spacetime'",
        [AXES, "time"],
    ),
    "axes without a pool": (
        [*PLACES, "AXES", "space"],
        [*PLACES, "AXES", "time"],
        "axes 'space', this model's 'time'",
        [AXES, "space"],
    ),
    "groups": (
        [*PLACES, "FRAMES_PER_GROUP", "[0,4,0,0]"],
        PLACES,
        "frames_per_group 4, this model's 0",
        [GROUPS, "[0,4,0,0]"],
    ),
    "none": (
        PLACES,
        [],
        "it has trained backbone.res3.nonlocal0, backbone.res4.nonlocal0",
        ["MODEL.NONLOCAL.BACKBONE.AFTER", "['res3.0','res4.0']"],
    ),
}


def make_config(words):
    cfg = tiny_video_cfg()
    keys = [f"MODEL.NONLOCAL.{key}" for key in words[::2]]
    cfg.merge_from_list([word for pair in zip(keys, words[1::2], strict=True) for word in pair])
    return cfg


@pytest.mark.parametrize("name", MISMATCHES)
def test_other_video_blocks_are_a_mismatch_with_the_overrides_that_fit(name):
    trained, used, expected, fitting = MISMATCHES[name]
    model = build_on_meta(make_config(trained))
    blocks = describe_blocks(model)
    shapes = {key: tuple(tensor.shape) for key, tensor in model.state_dict().items()}
    cfg = make_config(used)
    said = find_mismatch(describe_run(cfg), build_on_meta(cfg), blocks, shapes)
    assert expected in said
    assert shlex.split(said.rsplit("To fit it: ", 1)[1]) == fitting
    cfg.merge_from_list(fitting)
    assert not find_mismatch(describe_run(cfg), build_on_meta(cfg), blocks, shapes)
