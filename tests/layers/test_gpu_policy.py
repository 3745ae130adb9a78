"""What a block would do on CUDA, on fake tensors: it needs no GPU and computes nothing."""

from contextlib import contextmanager

import pytest
import torch
from fast_part import first_cases
from helpers import needs_fake_cuda
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from nl_detectron.layers import PAIRWISE, NonLocalBlock, build_pairwise, choice
from nl_detectron.layers.choice import RULES, Rule, Sizes, prefers_sdpa

FORMS = tuple(PAIRWISE)
SOFTMAX = ("gaussian", "embedded_gaussian")
RES4, RES3, ROIS = (2, 1024, 50, 84), (2, 512, 100, 168), (9, 512, 14, 14)
LAYOUTS = [torch.contiguous_format, torch.channels_last]


class Copies(TorchDispatchMode):
    """Shapes of all tensors that are copied into another layout. Casts do not count."""

    def __init__(self):
        super().__init__()
        self.shapes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func._opname in ("clone", "copy_", "contiguous"):
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@contextmanager
def set_default_dtype(dtype):
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def copies_of(form, shape, dtype, memory_format):
    with FakeTensorMode(), torch.device("cuda"), set_default_dtype(dtype):
        block = NonLocalBlock(shape[1], pairwise=form)
        x = torch.randn(shape).contiguous(memory_format=memory_format)
        with Copies() as copies:
            z = block(x.requires_grad_())
    assert z.dtype == dtype and z.is_contiguous(memory_format=memory_format)
    return copies.shapes


@pytest.fixture
def half_products(monkeypatch):
    """Products in float32 of half-precision matrices, which fake tensors do not know."""
    monkeypatch.setattr(torch, "baddbmm", lambda *_, out, **__: out)


@needs_fake_cuda
@pytest.mark.usefixtures("half_products")
@first_cases(1, "shape", [RES4, RES3, ROIS], ids=["res4", "res3", "RoIs"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["float32", "float16"])
@pytest.mark.parametrize("form", FORMS)
def test_the_only_large_copy_is_that_of_x_into_channels_last_for_fused_attention(
    form, dtype, shape
):
    b, c, h, w = shape
    m, e = h // 2 * (w // 2), c // 2
    d = c if form == "gaussian" else e
    copied, always = [shape], []
    if form == "disentangled":
        always = [(b, m, d)]  # phi without its last channel
    softmax = form in (*SOFTMAX, "disentangled")
    if softmax and not prefers_sdpa(Sizes(b, h * w, d, m, e, "cuda", dtype)):
        # any layout will do for matrix products, but phi and g get rows of zeros up to a round M
        copied, always = [], [(b, m, d), (b, m, e)] if m % 8 else []
    if form == "concatenation" and shape != ROIS:
        # its scan wants positions next to each other, and W_z channels; few pairs need no scan
        always = [(b, h * w, e)]
    contiguous, channels_last = (copies_of(form, shape, dtype, layout) for layout in LAYOUTS)
    assert contiguous == copied + always and channels_last == always


@needs_fake_cuda
@pytest.mark.parametrize("form", SOFTMAX)
def test_fused_attention_gets_rows_and_never_cudnn(form, monkeypatch):
    calls = []

    def attention(*tensors, scale, attn_mask):
        assert attn_mask is None
        calls.append([t.is_contiguous() for t in tensors])
        assert not torch.backends.cuda.cudnn_sdp_enabled()  # it plans anew for each new shape
        assert torch.backends.cuda.flash_sdp_enabled()
        assert torch.backends.cuda.mem_efficient_sdp_enabled()
        return original(*tensors, scale=scale, attn_mask=attn_mask)

    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", attention)
    before = torch.backends.cuda.cudnn_sdp_enabled()
    assert copies_of(form, ROIS, torch.float32, torch.channels_last) == []
    assert calls == [[True] * 3]
    assert torch.backends.cuda.cudnn_sdp_enabled() == before


@pytest.mark.parametrize(
    "d, m, dtype, fused",
    [
        (256, 10**9, torch.float16, True),
        (257, 200, torch.float16, True),
        (257, 201, torch.bfloat16, False),
        (16, 1, torch.float32, False),
        (4096, 0, torch.float64, True),
    ],
)
def test_the_first_rule_that_fits_decides_on_a_gpu(d, m, dtype, fused, monkeypatch):
    inf = float("inf")
    rules = [(256, choice.HALF, inf), (inf, choice.HALF, 1000), (inf, choice.SINGLE, 0)]
    rules = [Rule(*rule, "") for rule in rules]
    monkeypatch.setattr(choice, "RULES", rules)
    assert prefers_sdpa(Sizes(2, 5, d, m, d, "cuda", dtype)) == fused
    assert not prefers_sdpa(Sizes(2, 5, d, m, d, "cpu", dtype))


def test_rules_fit_any_sum_and_have_reasons():
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        prefers_sdpa(Sizes(1, 10, 10_000, 10, 10, "cuda", dtype))
    assert all(rule.reason and rule.pairs >= 0 for rule in RULES)


@pytest.mark.parametrize("form", FORMS)
def test_deterministic_mode_takes_no_scan(form):
    pairwise, sizes = build_pairwise(form, 4), Sizes(1, 10_000, 64, 10_000, 64, "cuda")
    assert pairwise.prefers_fused(sizes)
    torch.use_deterministic_algorithms(True)
    try:
        assert pairwise.prefers_fused(sizes) == (form != "concatenation")
    finally:
        torch.use_deterministic_algorithms(False)
