"""Attention across the frames of a clip: one row of weights at a time, where its positions lie."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import randomise
from video_models import build_video_model, tiny_video_cfg

from nl_detectron.attention import record_clip
from nl_detectron.modeling import find_blocks

CLIP = torch.arange(3 * 16 * 64 * 96).mul(2654435761).bitwise_right_shift(9).remainder(256)
CLIP = CLIP.to(torch.uint8).view(3, 16, 64, 96)  # as good as noise
BLOCK = "backbone.res3.nonlocal0"  # 8 frames of 8 x 12 positions, at strides of 2 and 8


@pytest.fixture
def make_record():
    def make(**keys):
        cfg = tiny_video_cfg(STRIDES="8x8")
        cfg.MODEL.NONLOCAL.update(keys)
        cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res3.0"]
        model = build_video_model(cfg).train()
        randomise(find_blocks(model)[BLOCK])
        record = record_clip(model, CLIP)
        assert model.training
        return model.eval(), record

    return make


def all_weights(model):
    """Weights of all parts, (parts, N, M), by the block's own pairwise function."""
    caught = []
    block = find_blocks(model)[BLOCK]
    handle = block.register_forward_pre_hook(lambda _, args: caught.append(args[0]))
    with torch.no_grad():
        model.scores(CLIP[None])
        handle.remove()
        theta, phi, _ = block.embed(caught[0])
        return block.pairwise.weights(theta, phi)


@pytest.mark.parametrize(
    ("keys", "shape", "part"),
    [
        # frame 11 is in the map's frame 5; (70, 20) in row 2 and column 8
        ({}, (1, 8, 4, 6), lambda w: w[0, (5 * 8 + 2) * 12 + 8].view(8, 4, 6)),
        ({"SUBSAMPLE": "none"}, (1, 8, 8, 12), lambda w: w[0, (5 * 8 + 2) * 12 + 8].view(8, 8, 12)),
        (
            {"FRAMES_PER_GROUP": [0, 4, 0, 0]},
            (4, 8, 4, 6),
            lambda w: {(4, 8): w[1, (1 * 8 + 2) * 12 + 8].view(4, 4, 6)},
        ),
        ({"AXES": "space"}, (1, 8, 4, 6), lambda w: {(5, 6): w[5, 2 * 12 + 8].view(1, 4, 6)}),
    ],
    ids=["spacetime", "unpooled", "groups", "space"],
)
@pytest.mark.parametrize("form", ["embedded_gaussian", "dot_product", "global_context"])
def test_a_row_is_the_one_of_the_matrix(form, keys, shape, part, make_record):
    model, record = make_record(PAIRWISE=form, **keys)
    found = record.attention(11, 70, 20, BLOCK)
    expected = part(all_weights(model))
    whole = torch.zeros(shape[1:])
    by_frames = {(0, 8): expected} if torch.is_tensor(expected) else expected
    for (first, last), values in by_frames.items():
        whole[first:last] = values
    torch.testing.assert_close(torch.from_numpy(found.weights), whole)
    assert found.point == (10, 68.0, 20.0) and found.form == form
    assert found.seen == sum(values.numel() for values in by_frames.values())
    assert found.frames == (0, 2, 4, 6, 8, 10, 12, 14)
    scores = model.scores(CLIP[None])[0].detach().numpy()
    np.testing.assert_allclose(record.scores, scores, rtol=1e-5)


def test_over_time_a_position_sees_its_place_alone(make_record):
    model, record = make_record(AXES="time")
    found = record.attention(11, 70, 20, BLOCK)
    expected = torch.zeros(8, 8, 12)
    expected[:, 2, 8] = all_weights(model)[2 * 12 + 8, 5]
    torch.testing.assert_close(torch.from_numpy(found.weights), expected)
    strongest = found.strongest(20)
    assert len(strongest) == 8 and {place[1:3] for place in strongest} == {(68.0, 20.0)}


def test_the_strongest_come_first_with_their_frame_and_place(make_record):
    _, record = make_record()
    found = record.attention(0, 5, 60, BLOCK)
    strongest = found.strongest(7)
    weights = [weight for *_, weight in strongest]
    assert weights == sorted(found.weights.ravel().tolist(), reverse=True)[:7]
    frame, x, y, _ = strongest[0]
    t, row, column = np.unravel_index(found.weights.argmax(), found.weights.shape)
    assert (frame, x, y) == (2 * t, 16 * column + 8, 16 * row + 8)  # cells of 16 pixels


def test_weights_below_a_thousandth_of_the_largest_get_no_arrow(make_record):
    _, record = make_record()
    found = record.attention(0, 5, 60, BLOCK)
    weights = np.zeros_like(found.weights)
    weights[0, 0, 0], weights[7, 1, 1], weights[3, 2, 2] = -1.0, 2e-3, 5e-4
    strongest = replace(found, weights=weights).strongest()
    assert [weight for *_, weight in strongest] == pytest.approx([-1.0, 2e-3])


def test_the_most_changed_position_is_where_the_block_adds_the_most(make_record):
    model, record = make_record()
    caught = []
    handle = find_blocks(model)[BLOCK].register_forward_hook(
        lambda _, args, z: caught.append((z - args[0])[0].square().sum(dim=0))
    )
    with torch.no_grad():
        model.scores(CLIP[None])
    handle.remove()
    t, row, column = np.unravel_index(int(caught[0].argmax()), caught[0].shape)
    assert record.most_changed(BLOCK) == (2 * t, 8 * column + 4, 8 * row + 4)
    with pytest.raises(ValueError, match="no block 'res9' here"):
        record.most_changed("res9")


@pytest.mark.parametrize(
    ("at", "said"),
    [
        ((16, 1, 1, BLOCK), "a frame of 0 to 15"),
        ((0, 97, 1, BLOCK), "got frame 0 at 97, 1"),
        ((0, 1, 1, "res9"), f"no block 'res9' here; there are: {BLOCK}"),
    ],
)
def test_what_is_not_there_is_refused(at, said, make_record):
    _, record = make_record()
    with pytest.raises(ValueError, match=said):
        record.attention(*at)


def test_what_is_no_clip_is_refused():
    model = build_video_model(tiny_video_cfg())
    with pytest.raises(ValueError, match=r"uint8 \(3,T,H,W\), got torch.float32 \(3, 8, 64, 64\)"):
        record_clip(model, torch.rand(3, 8, 64, 64))
