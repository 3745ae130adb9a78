"""A new block: an identity whose every parameter learns, and the scale of its weights."""

import pytest
import torch
from fast_part import combinations
from torch import nn

from nl_detectron.layers import NORMS, PAIRWISE, SUBSAMPLES, NonLocalBlock

FORMS = tuple(PAIRWISE)
SPACES = {1: (7,), 2: (5, 6), 3: (3, 5, 4)}
C = 32  # GN wants 32 groups


@combinations(form=FORMS, subsample=SUBSAMPLES, norm=NORMS, ndim=SPACES)
def test_block_starts_as_the_identity(form, subsample, norm, ndim):
    block = NonLocalBlock(C, pairwise=form, subsample=subsample, norm=norm, ndim=ndim)
    x = torch.randn(2, C, *SPACES[ndim])
    assert torch.equal(block(x), x)
    assert torch.equal(block.eval()(x), x)
    assert block.g.weight.abs().min() > 0  # the identity by its last layer alone


@combinations(form=FORMS, norm=NORMS)
def test_gradient_reaches_the_whole_block_after_one_step(form, norm):
    block = NonLocalBlock(C, pairwise=form, norm=norm)
    x, target = torch.randn(2, 2, C, 6, 6)
    optimizer = torch.optim.SGD(block.parameters(), lr=1.0)
    last = block.w_z.weight if not norm else block.norm.weight
    loss = ((block(x) - target) ** 2).mean()
    loss.backward()
    assert last.grad.abs().max() > 0  # zero, but not dead
    assert block.g.weight.grad.abs().max() == 0
    optimizer.step()
    optimizer.zero_grad()
    ((block(x) - target) ** 2).mean().backward()
    for name, parameter in block.named_parameters():
        if not name.endswith("bias"):  # some biases cancel: phi's in a softmax, g's before BN
            assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "form, norm, parameters",
    [
        ("embedded_gaussian", "", 3 * (1024 * 512 + 512) + 512 * 1024 + 1024),  # 2,099,712
        ("dot_product", "", 2_099_712),
        ("gaussian", "", 2_099_712 - 2 * (1024 * 512 + 512)),
        ("concatenation", "", 2_099_712 + 2 * 512),
        ("embedded_gaussian", "BN", 2_099_712 + 1024),  # scale and shift for a bias
    ],
)
def test_parameter_counts(form, norm, parameters):
    with torch.device("meta"):
        block = NonLocalBlock(1024, pairwise=form, norm=norm)
    assert sum(p.numel() for p in block.parameters()) == parameters


def test_embeddings_start_gaussian_and_biases_zero():
    block = NonLocalBlock(512, norm="BN")
    for conv in (block.theta, block.phi, block.g, block.w_z):
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.02)
        assert abs(conv.weight.mean().item()) < 2e-4
    assert all(conv.bias.abs().max() == 0 for conv in (block.theta, block.phi, block.g))
    assert block.w_z.bias is None  # BN has one


def test_concatenation_starts_as_an_average():
    """All pairs above ReLU's zero, and well above it: below, no gradient comes back."""
    block = NonLocalBlock(512, pairwise="concatenation")
    assert block.pairwise.w_f.std().item() == pytest.approx(0.01, rel=0.15)  # 512 of them
    x = torch.randn(2, 512, 8, 8).relu()
    theta, phi = (conv(x).flatten(2).transpose(1, 2) for conv in (block.theta, block.phi))
    sums = block.pairwise.weights(theta, phi).sum(dim=-1)
    assert sums.min() > 0.8 and sums.max() < 1.2


def test_every_form_starts_loud_enough_to_be_heard():
    """y of a new block, on what a ReLU gives, within a factor of 10 for all forms: W_z's gradient
    is proportional to it."""
    x = torch.randn(2, 256, 4, 16).relu()
    loudness = {}
    for form in PAIRWISE:
        torch.manual_seed(0)
        block = NonLocalBlock(256, pairwise=form)
        with torch.no_grad():
            nn.init.eye_(block.w_z.weight[:128, :, 0, 0])
            loudness[form] = (block(x) - x)[:, :128].square().mean().sqrt().item()
    assert max(loudness.values()) < 10 * min(loudness.values()), loudness


@pytest.mark.parametrize("channels, inner", [(7, 3), (1, 1), (64, 32)])
def test_inner_channels_are_half_by_default(channels, inner):
    assert NonLocalBlock(channels).g.weight.shape[:2] == (inner, channels)
