"""Blocks on a CUDA device, against float64; the same at a tiny size on the CPU.

Precisions, empty batches and deterministic mode run on both devices. Which kernels run, and that
the CPU never waits for the GPU, only a GPU can tell.
"""

import os
from itertools import product

import pytest
import torch
from formula import block_by_formula
from helpers import randomise, tiny_cfg, with_blocks
from layouts import channels_last, contiguous

from benchmarks.attention_kernels import attention_backend, attention_kernels
from nl_detectron.layers import PAIRWISE, NonLocalBlock
from nl_detectron.layers.choice import Sizes, prefers_sdpa
from nl_detectron.modeling import build_model

# Deterministic mode wants it, and cuBLAS reads it once, when it starts.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

FORMS = tuple(PAIRWISE)
SOFTMAX = ("gaussian", "embedded_gaussian")
# The softmax forms by the rules of choice.py, and each of their two sums whatever the rules say.
SUMS = (*FORMS, *(f"{form}, {way}" for form in SOFTMAX for way in ("tiled", "sdpa")))
on_cuda = pytest.mark.gpu
CHANNELS = (128, 256, 512, 1024)
DEVICES_AND_CHANNELS = (
    ("cpu", 16),
    *(pytest.param("cuda", channels, marks=on_cuda) for channels in CHANNELS),
)
# Of the whole tensor's norm. Rounding is 2^-24, 2^-11 and 2^-8; a ReLU at zero and gradients among
# the smallest numbers of fp16 cost the concatenation ten times that.
TOLERANCES = {torch.float32: 1e-4, torch.float16: 0.04, torch.bfloat16: 0.1}


def build_block(device, inner_channels, sum_, **keys):
    """A block that is no identity, with weights and scores of the same size for any channels."""
    form, _, way = sum_.partition(", ")
    with torch.device(device):
        block = NonLocalBlock(2 * inner_channels, pairwise=form, **keys)
    if way:
        block.pairwise.fused = getattr(block.pairwise, way)
    return randomise(block, std=0.3 * inner_channels**-0.5)


def draw(block, *shape, dtype=torch.float32):
    """An image for a block, with exponents of a few units in the softmax forms."""
    channels = block.in_channels
    shape = shape[0], channels, *shape[1:]
    device = block.w_z.weight.device
    return (channels**-0.25 * torch.randn(shape, device=device)).to(dtype)


def run(function, block, x, dz, dtype=torch.float32):
    """z and the gradients of x and of every parameter, with autocast to a half precision."""
    x = x.detach().requires_grad_()
    with torch.autocast(x.device.type, dtype, enabled=dtype in (torch.float16, torch.bfloat16)):
        z = function(x)
    parameters = dict(block.named_parameters())
    grads = torch.autograd.grad(z, [x, *parameters.values()], dz, materialize_grads=True)
    return {"z": z.detach(), **dict(zip(("x", *parameters), grads, strict=True))}


@pytest.fixture
def without_tf32():
    """Convs and matrix products in full float32. A run in the same process may have changed it."""
    both = torch.backends.cudnn, torch.backends.cuda.matmul
    before = [library.allow_tf32 for library in both]
    for library in both:
        library.allow_tf32 = False
    yield
    for library, allowed in zip(both, before, strict=True):
        library.allow_tf32 = allowed


@pytest.mark.usefixtures("without_tf32")
@pytest.mark.parametrize("dtype", TOLERANCES)
# not "after": a pool of rounded values takes the other of two nearly equal ones
@pytest.mark.parametrize("subsample", ["before", "none"])
@pytest.mark.parametrize("sum_", SUMS)
@pytest.mark.parametrize("device, channels", DEVICES_AND_CHANNELS)
def test_block_and_gradients_are_near_float64(device, channels, sum_, subsample, dtype):
    block = build_block(device, channels, sum_, subsample=subsample)
    x, dz = draw(block, 2, 8, 10, dtype=dtype), draw(block, 2, 8, 10, dtype=dtype)
    found = {}
    for layout in (contiguous, channels_last):
        found[layout.__name__] = run(block, block, layout(x), layout(dz), dtype)
    exact = block.double()
    expected = run(lambda x: block_by_formula(exact, x), exact, x.double(), dz.double())
    compared = {name: [name] for name in expected}
    if sum_.startswith(("embedded_gaussian", "global_context", "disentangled")):
        del compared["phi.bias"]  # it adds one number to all scores of a row: a softmax sees none
    if sum_ == "disentangled":
        del compared["theta.bias"]  # theta is centred
    if sum_ == "concatenation":
        # These biases get w_f times one number, a sum over all pairs, which may come near zero.
        for conv in ("theta", "phi"):
            compared[f"{conv}.weight"] += compared.pop(f"{conv}.bias")
    for layout, names in product(found, compared.values()):
        value, exact = (
            torch.cat([of[name].double().flatten() for name in names])
            for of in (found[layout], expected)
        )
        error = (value - exact).norm() / exact.norm()
        assert error < TOLERANCES[dtype], f"{names}, {layout}"
        for name in names:
            half = name in ("x", "z")
            assert found[layout][name].dtype == (dtype if half else torch.float32)


@pytest.mark.usefixtures("without_tf32")
@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("sum_", SUMS)
@pytest.mark.parametrize("device, channels", DEVICES_AND_CHANNELS)
def test_padded_images_and_gradients_are_near_those_alone(device, channels, sum_, dtype):
    block, sizes = build_block(device, channels, sum_), [(8, 6), (5, 10)]
    x, dz = (draw(block, 2, 8, 10, dtype=dtype) for _ in range(2))
    own = torch.zeros_like(x)
    for image, (h, w) in zip(own, sizes, strict=True):
        image[:, :h, :w] = 1
    dz *= own
    found = run(lambda x: block(x, sizes), block, x, dz, dtype)
    found["z"] *= own  # z in the padding may be anything
    exact = block.double()
    names = ("z", "x", "g.weight")
    expected = {name: torch.zeros_like(found[name], dtype=torch.float64) for name in names}
    for n, (h, w) in enumerate(sizes):
        here = (slice(n, n + 1), slice(None), slice(h), slice(w))
        alone = run(
            lambda x: block_by_formula(exact, x), exact, x[here].double(), dz[here].double()
        )
        expected["z"][here], expected["x"][here] = alone["z"], alone["x"]
        expected["g.weight"] += alone["g.weight"]
    for name in names:
        error = (found[name].double() - expected[name]).norm() / expected[name].norm()
        assert error < TOLERANCES[dtype], name


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("form", SOFTMAX)
@pytest.mark.parametrize(
    "device, channels, space",
    [
        ("cpu", 16, (8, 10)),
        *(
            pytest.param("cuda", channels, space, marks=on_cuda)
            for channels, space in product(CHANNELS, [(8, 10), (50, 84)])
        ),
    ],
)
def test_rules_decide_which_attention_runs_and_it_is_never_cudnns(
    device, channels, space, form, dtype
):
    block = build_block(device, channels, form, subsample="none")
    x, dz = (draw(block, 1, *space, dtype=dtype) for _ in range(2))
    d = channels if form == "embedded_gaussian" else block.in_channels
    n = space[0] * space[1]
    expected = {"none"}
    if prefers_sdpa(Sizes(1, n, d, n, channels, device, dtype)):
        flash = dtype != torch.float32 and d == channels <= 256
        expected = {"flash"} if flash else {"memory-efficient"}
        if d > 192:  # some cards have no backward pass of FlashAttention from there on
            expected.add("memory-efficient")
    kernels = attention_kernels(lambda: run(block, block, x, dz, dtype))
    assert attention_backend(kernels) in expected, kernels


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("device, channels", DEVICES_AND_CHANNELS)
def test_an_empty_batch_gives_an_empty_batch_and_no_gradients(device, channels, form, dtype):
    block = build_block(device, channels, form)
    x = draw(block, 0, 8, 10, dtype=dtype)
    found = run(block, block, x, x, dtype)
    assert found["z"].shape == found["x"].shape == x.shape
    assert not any(value.any() for value in found.values())


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("subsample", ["before", "after", "none"])
@pytest.mark.parametrize("sum_", SUMS)
@pytest.mark.parametrize("device, channels", DEVICES_AND_CHANNELS)
def test_deterministic_mode_gives_the_same_bits_twice(device, channels, sum_, subsample, dtype):
    block = build_block(device, channels, sum_, subsample=subsample)
    space = (32, 40) if device == "cuda" else (8, 10)  # many blocks of threads
    x, dz = (draw(block, 2, *space, dtype=dtype) for _ in range(2))
    torch.use_deterministic_algorithms(True)
    try:
        first, second = (run(block, block, x, dz, dtype) for _ in range(2))
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(first[name], second[name]) for name in first)


@on_cuda
@pytest.mark.parametrize("sizes", [None, [(16, 20), (13, 17)]], ids=["equal", "padded"])
@pytest.mark.parametrize("norm", ["", "BN", "GN", "LN"])
@pytest.mark.parametrize("form", FORMS)
def test_training_step_never_waits_for_the_device(form, norm, sizes):
    block = randomise(NonLocalBlock(64, pairwise=form, norm=norm)).cuda()
    x = torch.randn(2, 64, 16, 20, device="cuda", requires_grad=True)

    def step():
        with torch.autocast("cuda", torch.float16):
            z = block(x, sizes)
        z.float().square().mean().backward()

    step()  # libraries may wait when they start
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(p.grad.isfinite().all() for p in block.parameters())


@on_cuda
def test_building_blocks_leaves_the_gpus_random_numbers_alone():
    torch.cuda.manual_seed(5)
    torch.rand(1, device="cuda")
    before = torch.cuda.get_rng_state()
    build_model(with_blocks(tiny_cfg()))
    assert torch.equal(torch.cuda.get_rng_state(), before)
