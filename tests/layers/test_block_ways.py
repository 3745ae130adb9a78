"""The block under autocast, compiled, checkpointed, and in both memory layouts."""

import pytest
import torch
from fast_part import combinations
from torch.utils._python_dispatch import TorchDispatchMode

from nl_detectron.layers import PAIRWISE, NonLocalBlock
from nl_detectron.layers import softmax_sum as softmax_module

FORMS = tuple(PAIRWISE)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_block_under_autocast_is_finite_on_large_features(form, dtype):
    block = NonLocalBlock(64, pairwise=form)
    torch.nn.init.normal_(block.w_z.weight, std=0.01)
    x = (100 * torch.randn(1, 64, 6, 6)).requires_grad_()
    with torch.autocast("cpu", dtype):
        z = block(x)
    z.float().mean().backward()
    assert z.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("fused", [False, True], ids=["dense", "fused"])
@pytest.mark.parametrize("subsample", ["before", "none"])
@pytest.mark.parametrize("form", FORMS)
def test_block_compiles_whole(form, subsample, fused, monkeypatch):
    block = NonLocalBlock(32, pairwise=form, subsample=subsample)
    torch.nn.init.normal_(block.w_z.weight, std=0.1)
    monkeypatch.setattr(block.pairwise, "prefers_fused", lambda sizes: fused)
    monkeypatch.setattr(softmax_module, "TILE_PAIRS", 3000)
    monkeypatch.setattr(softmax_module, "KEPT_PAIRS", 6000)
    x = torch.randn(2, 32, 12, 10)
    torch._dynamo.reset()
    # aot_eager traces forward and backward as the default does, without a C++ compiler
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")
    results = []
    for run in (block, compiled):
        leaf = x.clone().requires_grad_()
        z = run(leaf)
        results.append((z, *torch.autograd.grad(z.square().sum(), [leaf, block.g.weight])))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@combinations(form=FORMS, norm=["", "BN", "GN"])
def test_checkpointing_keeps_numbers_and_less_memory(form, norm):
    results = []
    for checkpoint in (False, True):
        torch.manual_seed(3)
        block = NonLocalBlock(32, pairwise=form, norm=norm, checkpoint=checkpoint)
        torch.nn.init.normal_(block.w_z.weight, std=0.1)
        if norm:
            torch.nn.init.ones_(block.norm.weight)
        x = torch.randn(2, 32, 12, 10, requires_grad=True)
        saved = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, s=saved: s.update({t.data_ptr(): t.numel()}) or t, lambda t: t
        ):
            z = block(x)
        z.square().sum().backward()
        gradients = {n: p.grad for n, p in block.named_parameters()}
        buffers = {n: b.clone() for n, b in block.named_buffers()}
        results.append(({"z": z, "x": x.grad, **gradients, **buffers}, sum(saved.values())))
    (expected, memory), (found, less) = results
    torch.testing.assert_close(found, expected)
    assert less < memory


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_nothing_is_copied(memory_format):
    """theta, phi and g are read as (B,N,C) rows, and y as an image, where they lie."""
    x = torch.randn(1, 64, 20, 20).contiguous(memory_format=memory_format)
    block = NonLocalBlock(64, subsample="none")
    copies = []

    class Copies(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if "clone" in str(func) or "copy" in str(func):
                copies.append(tuple(args[0].shape))
            return func(*args, **(kwargs or {}))

    with torch.no_grad(), Copies():
        block(x)
    assert not copies
