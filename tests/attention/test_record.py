"""An AttentionRecord holds what the block computes, at its place in the image."""

import math

import numpy as np
import pytest
import torch
from colour_model import BINS, STRIDE, ColourModel, record_rgb
from fast_part import combinations
from helpers import randomise

from nl_detectron.attention import capture_attention, is_untrained
from nl_detectron.attention.record import ROWS_AT_ONCE
from nl_detectron.engine import load_config
from nl_detectron.layers import PAIRWISE, SUBSAMPLES, NonLocalBlock
from nl_detectron.modeling import build_model, find_blocks

SIZES = [(250, 430), (433, 270)]
A, B = (0.25, 0.3), (0.75, 0.7)  # of width and height: where the image is bright
BACKBONE, HEAD = "backbone.res4.nonlocal0", "keypoint_head.nonlocal2"


def two_lights(height, width, side):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for x, y in (A, B):
        x0, y0 = int(x * width - side / 2), int(y * height - side / 2)
        image[y0 : y0 + side, x0 : x0 + side] = (255, 0, 255)
    return image


def centre_of_far_weights(attention, near, far):
    """The weights' mean place among the positions that are nearer to ``far`` than to ``near``."""
    centres = attention.grid.centres()
    to = [np.linalg.norm(centres - np.array(p), axis=-1) for p in (near, far)]
    weights = np.where(to[1] < to[0], attention.weights, 0)
    return (centres * weights[..., None]).sum(axis=(0, 1)) / weights.sum(), weights.sum()


@pytest.mark.parametrize("subsample", SUBSAMPLES)
@pytest.mark.parametrize("mirror", [False, True], ids=["as it is", "mirrored"])
@pytest.mark.parametrize("resize", [(0, 0), (384, 999), (130, 250)], ids=["", "larger", "smaller"])
@pytest.mark.parametrize("block", [BACKBONE, HEAD], ids=["backbone", "RoI"])
def test_known_attention_lies_on_the_right_pixels(block, resize, mirror, subsample):
    """Within one stride, after resize and padding (also to a larger image of the batch)."""
    images = [two_lights(*size, side=80) for size in SIZES]
    boxes = [[[0.1 * w, 0.1 * h, 0.95 * w, 0.9 * h]] for h, w in SIZES]
    model = ColourModel(boxes, subsample, mirror)
    for record, (height, width) in zip(
        record_rgb(model, images, resize, mirror), SIZES, strict=True
    ):
        near, far = ((x * width, y * height) for x, y in (A, B))
        found = record.attention(*near, block)
        step = np.abs(found.grid.step)
        place, weight = centre_of_far_weights(found, near, far)
        assert weight > 0.2  # about a half
        assert (np.abs(place - far) <= step).all()
        assert (np.abs(np.array(found.point) - near) <= step).all()
        if block == HEAD:
            assert found.box == pytest.approx(boxes[SIZES.index((height, width))][0], abs=0.01)


@pytest.mark.parametrize("side", [33, 64, 100, 129])
def test_a_small_images_stride_is_reported_in_spite_of_its_padding(side):
    model = ColourModel([[]])
    [record] = record_rgb(model, [np.zeros((side, side, 3), np.uint8)], (0, 0))
    grid = record.attention(1, 1, BACKBONE).grid
    assert grid.step == (STRIDE, STRIDE) and grid.shape[0] == 2 * math.ceil(side / 32)


def test_an_rois_positions_divide_its_box():
    box = [40, 20, 110, 90]
    [record] = record_rgb(ColourModel([[box]]), [two_lights(120, 160, 20)], (0, 0))
    grid = record.attention(50, 30, HEAD).grid
    assert grid.box == pytest.approx(box) and grid.step == pytest.approx((70 / BINS,) * 2)


def test_a_heads_attention_is_that_of_the_highest_scored_roi_that_holds_the_point():
    boxes = [[0, 0, 60, 60], [0, 0, 160, 120], [30, 30, 40, 40]]
    [record] = record_rgb(ColourModel([boxes]), [two_lights(120, 160, 20)], (0, 0))
    assert record.attention(35, 35, HEAD).box == pytest.approx(boxes[0])
    assert record.attention(100, 100, HEAD).box == pytest.approx(boxes[1])
    assert len({record.attention(5, 5, BACKBONE).box}) == 1


def test_without_an_roi_there_is_nothing_to_tell():
    [record] = record_rgb(ColourModel([[[0, 0, 30, 30]]]), [two_lights(120, 160, 20)], (0, 0))
    assert record.attention(100, 100, HEAD) is None
    assert record.summary(HEAD) is not None and record.summary(HEAD, roi=1) is None
    [record] = record_rgb(ColourModel([[]]), [two_lights(120, 160, 20)], (0, 0))
    assert record.attention(100, 100, HEAD) is None and record.summary(HEAD) is None


# --- real models ---------------------------------------------------------------------------------

PLACES = ("MODEL.NONLOCAL.BACKBONE.AFTER", "['res3.0', 'res4.-2']")


def thin_model(*words):
    thin = ("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16")
    words = ["MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", *thin, *words]
    name = "relay_keypoint_rcnn_nl" if "MODEL.ROI_KEYPOINT_HEAD.NAME" in words else None
    config = f"configs/Demo/{name or 'relay_mask_rcnn_nl'}.yaml"
    model = build_model(load_config(config, words))
    for block in find_blocks(model).values():
        randomise(block, std=0.2)
    return model


@combinations(form=PAIRWISE, subsample=SUBSAMPLES)
def test_rows_are_those_of_the_blocks_own_weights(form, subsample):
    model = thin_model("MODEL.NONLOCAL.PAIRWISE", form, "MODEL.NONLOCAL.SUBSAMPLE", subsample)
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    block, given = find_blocks(model)["backbone.bottom_up.res4.nonlocal4"], []
    handle = block.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    [record] = record_rgb(model, [image], (0, 0))
    handle.remove()
    with torch.no_grad():
        theta, phi, g = block.embed(given[0])
        expected = block.pairwise.weights(theta, phi)[0]
        y = block.pairwise(phi[:, :1] if form == "global_context" else theta, phi, g)
        spoken = block.w_z(g.transpose(1, 2)[..., None]) - block.w_z.bias[None, :, None, None]
    columns = given[0].shape[3]
    for row, column in ((0, 0), (2, 3)):
        found = record.attention(column * 16 + 5, row * 16 + 5, "backbone.bottom_up.res4.nonlocal4")
        i = row * columns + column
        assert found.form == form
        assert found.weights.ravel() == pytest.approx(expected[i].numpy(), rel=1e-4, abs=1e-7)
        summed = torch.as_tensor(found.weights).reshape(1, -1) @ g[0]
        own = y[0, 0 if form == "global_context" else i]
        assert torch.allclose(summed[0], own, rtol=1e-3, atol=1e-5)
        assert found.values.ravel() == pytest.approx(
            spoken.norm(dim=1).ravel().numpy(), rel=1e-3, abs=1e-6
        )
        if form.endswith("gaussian"):
            softmax = np.exp(found.scores - found.scores.max())
            assert found.weights == pytest.approx(softmax / softmax.sum(), rel=1e-3, abs=1e-6)
        else:
            assert found.scores is None
        assert found.contributions == pytest.approx(np.abs(found.weights) * found.values)


def test_values_count_a_norm_that_has_learnt_its_statistics():
    model = thin_model("MODEL.NONLOCAL.NORM", "BN").eval()
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    [record] = record_rgb(model, [image], (0, 0))
    name = "backbone.bottom_up.res4.nonlocal4"
    block, seen = find_blocks(model)[name], record._seen[name][0]
    with torch.no_grad():
        g = block.embed(seen.x[None])[2]
        z = block.norm(block.w_z(g.transpose(1, 2)[..., None]))
        nothing = block.norm(torch.zeros_like(z))
    expected = (z - nothing).norm(dim=1).ravel().numpy()
    assert record.attention(1, 1, name).values.ravel() == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", PAIRWISE)
def test_a_summary_is_of_all_rows(form):
    words = ("MODEL.NONLOCAL.PAIRWISE", form, "MODEL.NONLOCAL.SUBSAMPLE", "none", *PLACES)
    model = thin_model(*words)
    image = np.random.default_rng(0).integers(0, 255, (128, 192, 3), dtype=np.uint8)
    [record] = record_rgb(model, [image], (0, 0))
    name = "backbone.bottom_up.res3.nonlocal0"
    block, x = find_blocks(model)[name], record._seen[name][0].x[None]
    with torch.no_grad():
        weights = block.pairwise.weights(*block.embed(x)[:2])[0].double().abs().numpy()
    assert weights.shape[0] > ROWS_AT_ONCE
    found = record.summary(name)
    assert found.received.ravel() == pytest.approx(weights.mean(axis=0), rel=1e-3)
    parts = weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-12)
    entropy = -(parts * np.log(np.where(parts > 0, parts, 1))).sum(axis=1)
    assert found.entropy.ravel() == pytest.approx(entropy, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("resize", [(0, 0), (128, 999)], ids=["", "larger"])
@pytest.mark.parametrize("head", ["keypoint", "mask"])
def test_a_heads_blocks_are_seen(head, resize):
    words = (f"MODEL.ROI_{head.upper()}_HEAD.NAME", f"NonLocal{head.title()}Head")
    words += (f"MODEL.NONLOCAL.{head.upper()}_HEAD.AFTER", "[2, 4]")
    words += ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0", "MODEL.ROI_MASK_HEAD.NUM_CONV", "4")
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), dtype=np.uint8)
    [record] = record_rgb(thin_model(*words), [image], resize)
    assert len(record.instances) > 0
    x, y = record.instances.pred_boxes.get_centers()[0].tolist()
    found = record.attention(x, y, f"roi_heads.{head}_head.nonlocal2")
    assert found.weights.sum() == pytest.approx(1, abs=1e-4)
    assert found.box == pytest.approx(record.instances.pred_boxes.tensor[0].tolist(), abs=0.1)


def test_a_batch_sees_what_each_image_alone_does():
    model = thin_model().eval()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 96, 3), dtype=np.uint8) for _ in range(2)]
    name = "backbone.bottom_up.res4.nonlocal4"
    for record, image in zip(record_rgb(model, images, (0, 0)), images, strict=True):
        alone = capture_attention(model, image, [(5, 5)], (0, 0), image_format="RGB")[name][0]
        assert record.attention(5, 5, name).weights == pytest.approx(alone.weights, abs=1e-5)


@pytest.mark.parametrize("subsample", SUBSAMPLES)
def test_masked_padding_is_no_position(subsample):
    masked = ("MODEL.NONLOCAL.MASK_PADDING", "True")
    model = thin_model(*masked, "MODEL.NONLOCAL.SUBSAMPLE", subsample).eval()
    rng = np.random.default_rng(0)
    sizes = [(70, 96), (128, 90)]  # padded to 128 x 96
    images = [rng.integers(0, 255, (*size, 3), dtype=np.uint8) for size in sizes]
    name = "backbone.bottom_up.res4.nonlocal4"
    [block], given = [find_blocks(model)[name]], []
    handle = block.register_forward_hook(lambda _, args, z: given.append((args[0], z)))
    records = record_rgb(model, images, (0, 0))
    handle.remove()
    [(x, z)] = given
    for number, (record, (height, width)) in enumerate(zip(records, sizes, strict=True)):
        shape = math.ceil(height / 16), math.ceil(width / 16)
        found = record.attention(width, height, name)  # the last position
        assert found.point[0] < 16 * shape[1] and found.point[1] < 16 * shape[0]
        assert record.summary(name).entropy.shape == shape
        if subsample != "none":
            shape = shape[0] // 2, shape[1] // 2
        assert found.weights.shape == found.grid.shape == shape
        assert found.weights.sum() == pytest.approx(1, abs=1e-5)
        row, column = math.ceil(height / 16) - 1, math.ceil(width / 16) - 1
        with torch.no_grad():  # the record's weights are those of the block's own sum
            g = block.embed(record._seen[name][0].x[None])[2][0]
            y = torch.as_tensor(found.weights).reshape(1, -1) @ g
            expected = x[number, :, row, column] + block.w_z(y[:, :, None, None])[0, :, 0, 0]
        torch.testing.assert_close(z[number, :, row, column], expected, rtol=1e-3, atol=1e-4)


def test_a_look_leaves_the_model_as_it_was():
    model = thin_model().train()
    before = {n: t.clone() for n, t in model.state_dict().items()}
    record_rgb(model, [np.zeros((64, 96, 3), np.uint8)], (0, 0))
    assert model.training
    assert all(torch.equal(t, before[n]) for n, t in model.state_dict().items())
    hooks = [len(m._forward_pre_hooks) for m in model.modules()]
    assert sum(hooks) == 0


def test_a_baseline_has_views_without_blocks():
    words = ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone")
    model = thin_model(*words, "MODEL.NONLOCAL.BACKBONE.AFTER", "[]")
    [record] = record_rgb(model, [np.zeros((64, 96, 3), np.uint8)], (0, 0))
    assert record.blocks == []
    with pytest.raises(ValueError, match="has no non-local blocks"):
        record.attention(1, 1, "res4")


@pytest.mark.parametrize(
    ("image", "came"),
    [
        (np.zeros((4, 4), np.uint8), r"uint8 \(4, 4\)"),
        (np.zeros((4, 4, 3)), r"float64 \(4, 4, 3\)"),
        ("image.jpg", "str"),
    ],
)
def test_what_is_no_image_is_refused(image, came):
    with pytest.raises(ValueError, match=f"expected an RGB image.*{came}"):
        record_rgb(ColourModel([[]]), [image], (0, 0))


def test_a_point_outside_or_a_block_that_there_is_not_is_refused():
    [record] = record_rgb(ColourModel([[]]), [np.zeros((64, 96, 3), np.uint8)], (0, 0))
    with pytest.raises(ValueError, match="within the image, 0 to 96 and 0 to 64, got 97, 5"):
        record.attention(97, 5, BACKBONE)
    with pytest.raises(ValueError, match=r"expected one of gaussian for .*, got 'dot_product'"):
        record.attention(5, 5, BACKBONE, "dot_product")
    with pytest.raises(ValueError, match=f"no block 'res9'.*{BACKBONE}"):
        record.attention(5, 5, "res9")


@pytest.mark.parametrize("norm", ["", "BN", "GN"])
def test_a_block_is_untrained_until_its_last_weights_are_not_zero(norm):
    block = NonLocalBlock(64, norm=norm)
    assert is_untrained(block)
    last = block.norm if norm else block.w_z
    torch.nn.init.constant_(last.weight[:1], 1e-6)
    assert not is_untrained(block)


def test_attention_tells_that_its_block_is_untrained():
    model = ColourModel([[]])
    image = np.zeros((64, 64, 3), np.uint8)
    for untrained in (True, False):
        [record] = record_rgb(model, [image], (0, 0))
        name = "backbone.res4.nonlocal0"
        assert record.untrained(name) == record.attention(5, 5, name).untrained == untrained
        torch.nn.init.ones_(model.backbone.res4.nonlocal0.w_z.weight)
