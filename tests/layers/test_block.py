"""The whole block computes the paper's equation, at all sizes, layouts and precisions."""

import copy

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from detectron2.structures import ImageList
from fast_part import combinations
from helpers import randomise
from reference import naive_block
from torch import nn

from nl_detectron.layers import NORMS, PAIRWISE, SUBSAMPLES, NonLocalBlock

FORMS = tuple(PAIRWISE)
SPACES = {1: (7,), 2: (5, 6), 3: (3, 5, 4)}  # odd sides too: the pool lets their rest fall
C = 32  # GN wants 32 groups


def assert_like_reference(block, x):
    expected = torch.from_numpy(naive_block(block, x.numpy()))
    assert not torch.allclose(expected, x)  # else the maths would go unseen
    torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-12)


@combinations(form=FORMS, subsample=SUBSAMPLES, ndim=SPACES, use_scale=[True, False])
def test_block_is_the_papers(form, subsample, ndim, use_scale):
    # D is not C / 2, so that a scale by the wrong channels shows
    block = NonLocalBlock(
        12, inner_channels=5, pairwise=form, subsample=subsample, use_scale=use_scale, ndim=ndim
    )
    x = 0.4 * torch.randn(2, 12, *SPACES[ndim], dtype=torch.float64)
    assert_like_reference(randomise(block).double(), x)


@combinations(norm=NORMS, ndim=SPACES, training=[True, False])
def test_norm_stands_between_w_z_and_the_sum(norm, ndim, training):
    # two channels a group of GN
    block = NonLocalBlock(64, inner_channels=5, norm=norm, ndim=ndim).train(training)
    x = torch.randn(2, 64, *SPACES[ndim], dtype=torch.float64)
    assert_like_reference(randomise(block).double(), x)


def test_pool_before_and_pool_after_are_two_functions():
    before = randomise(NonLocalBlock(8, subsample="before"))
    after = NonLocalBlock(8, subsample="after")
    after.load_state_dict(before.state_dict())
    x = torch.randn(1, 8, 4, 4)
    assert not torch.allclose(before(x), after(x), rtol=0.1)


@pytest.mark.parametrize("subsample, m", [("before", 6), ("after", 6), ("none", 30)])
def test_dot_product_divides_by_the_subsampled_positions(subsample, m):
    block = NonLocalBlock(1, pairwise="dot_product", subsample=subsample)
    for parameter in block.parameters():
        nn.init.ones_(parameter)
    for conv in (block.theta, block.phi, block.g, block.w_z):
        nn.init.zeros_(conv.bias)
    x = torch.zeros(1, 1, 5, 6)
    x[..., 0, 0] = 2.0  # the one position with f = 2 * 2 and g = 2
    assert block(x)[0, 0, 0, 0].item() == pytest.approx(2 + 4 * 2 / m)


def test_frames_of_a_video_are_not_pooled_together():
    block = randomise(NonLocalBlock(4, pairwise="dot_product", ndim=3))
    x = torch.randn(1, 4, 1, 4, 4)
    torch.testing.assert_close(block(x.expand(1, 4, 3, 4, 4))[:, :, :1], block(x))
    assert block.pool(x.expand(1, 4, 3, 4, 4)).shape == (1, 4, 3, 2, 2)


# --- sizes, layouts and precisions


@pytest.mark.parametrize(
    "ndim, subsample, space",
    [(1, "none", (1,)), (2, "none", (1, 1)), (3, "none", (1, 1, 1)), (3, "before", (1, 2, 2))],
)
@pytest.mark.parametrize("form", FORMS)
def test_smallest_maps(form, ndim, subsample, space):
    block = NonLocalBlock(4, pairwise=form, subsample=subsample, ndim=ndim)
    x = torch.randn(1, 4, *space, dtype=torch.float64)
    assert_like_reference(randomise(block).double(), x)


@combinations(form=FORMS, norm=NORMS, training=[True, False])
def test_empty_batch(form, norm, training):
    # an image without proposals gives the keypoint head no RoIs
    block = randomise(NonLocalBlock(C, pairwise=form, norm=norm)).train(training)
    before = copy.deepcopy(block.state_dict())
    x = torch.zeros(0, C, 4, 4, requires_grad=True)
    z = block(x)
    assert z.shape == x.shape
    z.sum().backward()
    assert x.grad.shape == x.shape
    for name, parameter in block.named_parameters():  # DDP waits for each
        assert parameter.grad is not None and not parameter.grad.any(), name
    for name, buffer in block.named_buffers():
        if "running" in name:
            assert torch.equal(buffer, before[name]), name


@pytest.mark.parametrize("subsample", SUBSAMPLES)
@pytest.mark.parametrize("form", FORMS)
def test_memory_layout_changes_nothing(form, subsample):
    block = randomise(NonLocalBlock(8, pairwise=form, subsample=subsample)).double()
    x = torch.randn(2, 8, 6, 4, dtype=torch.float64)
    strided = x.repeat_interleave(2, dim=3)[..., ::2]
    last = x.contiguous(memory_format=torch.channels_last)
    assert not strided.is_contiguous() and torch.equal(strided, x)
    torch.testing.assert_close(block(strided), block(x), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(block(last), block(x), rtol=1e-12, atol=1e-12)
    assert block(last).is_contiguous(memory_format=torch.channels_last)  # no copy for the next conv


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_autocast_stays_finite_and_near(form, dtype):
    block = NonLocalBlock(1024, pairwise=form)
    nn.init.normal_(block.w_z.weight, std=0.01)
    x = torch.randn(2, 1024, 8, 8)
    exact = block(x)
    with torch.autocast("cpu", dtype):
        z = block(x)
        z.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in block.parameters())
    torch.testing.assert_close(z.float(), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("std", [8, 16])
def test_gaussian_stays_finite_in_fp16_on_large_features(std):
    # Rectified features of std 8 score about 33,000 with themselves, of std 16 four times that;
    # fp16 ends at 65,504.
    block = randomise(NonLocalBlock(1024, pairwise="gaussian"), std=0.01)
    x = (std * torch.randn(1, 1024, 8, 8)).relu()
    with torch.autocast("cpu", torch.float16):
        assert block(x).isfinite().all()


def test_freeze_stops_learning_and_keeps_the_output():
    block = randomise(NonLocalBlock(C, norm="BN"))
    x = torch.randn(2, C, 4, 4)
    expected = block.eval()(x)
    assert block.freeze() is block
    assert isinstance(block.norm, FrozenBatchNorm2d)
    assert not any(p.requires_grad for p in block.parameters())
    torch.testing.assert_close(block.train()(x), expected)


@combinations(form=FORMS, norm=NORMS)
def test_copies_and_state_dicts_carry_the_whole_block(form, norm):
    block = randomise(NonLocalBlock(C, pairwise=form, norm=norm)).eval()
    x = torch.randn(2, C, 4, 4)
    loaded = NonLocalBlock(C, pairwise=form, norm=norm).eval()
    loaded.load_state_dict(block.state_dict())
    assert torch.equal(copy.deepcopy(block)(x), block(x))
    assert torch.equal(loaded(x), block(x))


@pytest.mark.parametrize(
    "form, extra", [("gaussian", set()), ("embedded_gaussian", {"theta", "phi"})]
)
def test_tensors_have_the_papers_names(form, extra):
    names = {name.split(".")[0] for name in NonLocalBlock(4, pairwise=form).state_dict()}
    assert names == {"g", "w_z"} | extra


# --- batches


def test_images_of_one_size_do_not_see_each_other():
    block = randomise(NonLocalBlock(8, norm="LN"))
    x = torch.randn(3, 8, 4, 6)
    alone = torch.cat([block(image[None]) for image in x])
    torch.testing.assert_close(block(x), alone)


@pytest.mark.parametrize("form", FORMS)
def test_padding_takes_part(form):
    # Known behaviour: Detectron2 pads the smaller images of a batch with zeros, and the sum runs
    # over those positions too. A result therefore depends on an image's batch-mates.
    block = randomise(NonLocalBlock(8, pairwise=form))
    small, large = torch.randn(8, 4, 4), torch.randn(8, 4, 8)
    padded = ImageList.from_tensors([small, large]).tensor
    assert not torch.allclose(block(padded)[:1, :, :4, :4], block(small[None]), rtol=0.01)
