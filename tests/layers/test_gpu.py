"""Blocks on a CUDA device: mixed precision, and a hot path that the CPU never waits in."""

import copy

import pytest
import torch
from helpers import randomise, tiny_cfg, with_blocks

from nl_detectron.layers import PAIRWISE, NonLocalBlock
from nl_detectron.modeling import build_model

pytestmark = pytest.mark.gpu

FORMS = tuple(PAIRWISE)
# Of the whole tensor's norm. Rounding is 2^-11 and 2^-8; a ReLU at zero and gradients among the
# smallest numbers of fp16 cost the concatenation ten times that.
TOLERANCES = {torch.float16: 0.04, torch.bfloat16: 0.1}


def run(block, x, dtype=None):
    """z and the gradients of x and of every parameter, with autocast to ``dtype``."""
    block.zero_grad()
    x = x.detach().requires_grad_()
    with torch.autocast("cuda", dtype, enabled=dtype is not None):
        z = block(x)
    z.double().pow(2).sum().backward()  # a mean's gradients are too small for fp16
    return {"z": z, "x": x.grad, **{name: p.grad for name, p in block.named_parameters()}}


@pytest.mark.parametrize("dtype", TOLERANCES)
# not "after": a pool of rounded values takes the other of two nearly equal ones
@pytest.mark.parametrize("subsample", ["before", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_autocast_is_near_float64(form, subsample, dtype):
    block = NonLocalBlock(128, pairwise=form, subsample=subsample)
    randomise(block, std=0.05).cuda()
    x = 0.3 * torch.randn(2, 128, 8, 10, device="cuda")
    exact = run(copy.deepcopy(block).double(), x.double())
    for name, value in run(block, x, dtype).items():
        # phi's bias adds one number to all scores of a row, which a softmax does not see
        if name == "phi.bias" and form == "embedded_gaussian":
            continue
        error = (value.double() - exact[name]).norm() / exact[name].norm()
        assert error < TOLERANCES[dtype], name


@pytest.mark.parametrize("norm", ["", "BN", "GN", "LN"])
@pytest.mark.parametrize("form", FORMS)
def test_training_step_never_waits_for_the_device(form, norm):
    block = randomise(NonLocalBlock(64, pairwise=form, norm=norm)).cuda()
    x = torch.randn(2, 64, 16, 20, device="cuda", requires_grad=True)

    def step():
        with torch.autocast("cuda", torch.float16):
            z = block(x)
        z.float().square().mean().backward()

    step()  # libraries may wait when they start
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(p.grad.isfinite().all() for p in block.parameters())


def test_building_blocks_leaves_the_gpus_random_numbers_alone():
    torch.cuda.manual_seed(5)
    torch.rand(1, device="cuda")
    before = torch.cuda.get_rng_state()
    build_model(with_blocks(tiny_cfg()))
    assert torch.equal(torch.cuda.get_rng_state(), before)
