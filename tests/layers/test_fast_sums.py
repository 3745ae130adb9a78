"""The two ways to each sum: equal numbers, sound in every precision, and the cheaper one taken."""

import pytest
import torch
from fast_part import first_cases
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nl_detectron.layers import PAIRWISE, build_pairwise
from nl_detectron.layers import softmax_sum as softmax_module
from nl_detectron.layers.choice import Sizes
from nl_detectron.layers.sorted_sum import sorted_relu_sum

FORMS = tuple(PAIRWISE)
SIZES = [(2, 7, 3, 5, 4), (1, 1, 4, 1, 4), (3, 6, 5, 6, 2), (1, 3, 2, 40, 3), (0, 4, 3, 2, 3)]


# pairs at a time, and kept: a position; some and some; two images at once, all kept; and what M
# is rounded up to a multiple of
PIECES = {"rows": (1, 0, 1), "some": (8, 20, 1), "images": (90, 200, 1), "padded": (50, 20, 8)}


@pytest.fixture(params=PIECES.values(), ids=PIECES)
def pieces(request, monkeypatch):
    at_a_time, kept, alignment = request.param
    monkeypatch.setattr(softmax_module, "ALIGNMENT", {"cpu": alignment})
    monkeypatch.setattr(softmax_module, "TILE_PAIRS", at_a_time)
    monkeypatch.setattr(softmax_module, "KEPT_PAIRS", kept)


def build(form, channels):
    pairwise = build_pairwise(form, channels).double()
    for parameter in pairwise.parameters():
        torch.nn.init.normal_(parameter)
    return pairwise


def inputs(form, b, n, d, m, e, dtype=torch.float64, std=1.0):
    """theta, phi and g."""
    shapes = (b, n, d), (b, m, build_pairwise(form, d).phi_channels), (b, m, e)
    return [(std * torch.randn(shape)).to(dtype).requires_grad_() for shape in shapes]


def gradients(y, tensors):
    weight = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((y.double() * weight).sum(), tensors, allow_unused=True)


@pytest.mark.usefixtures("pieces")
@first_cases(1, "sizes", SIZES, ids=str)
@pytest.mark.parametrize("form", FORMS)
def test_both_ways_are_one_function(form, sizes):
    theta, phi, g = tensors = inputs(form, *sizes)
    pairwise = build(form, sizes[2])
    tensors = [*tensors, *pairwise.parameters()]
    plain, fast = pairwise.dense(theta, phi, g), pairwise.fused(theta, phi, g)
    torch.testing.assert_close(fast, plain, rtol=1e-10, atol=1e-12)
    for of_fast, of_plain in zip(gradients(fast, tensors), gradients(plain, tensors), strict=True):
        if of_plain is not None and of_fast is not None:
            torch.testing.assert_close(of_fast, of_plain, rtol=1e-9, atol=1e-11)
        else:  # the theta of a form that is the same for all
            assert of_plain is None or not of_plain.any()
            assert of_fast is None or not of_fast.any()


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_the_fused_way_are_right(form):
    check_gradients(form, "fused")


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_the_dense_way_are_right(form):
    check_gradients(form, "dense")


def check_gradients(form, way):
    pairwise = build(form, 3)
    parameters = dict(pairwise.named_parameters())

    class Way(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.pairwise = pairwise

        def forward(self, *tensors):
            return getattr(self.pairwise, way)(*tensors)

    def run(theta, phi, g, *values):
        given = {f"pairwise.{name}": v for name, v in zip(parameters, values, strict=True)}
        return functional_call(Way(), given, (theta, phi, g))

    assert torch.autograd.gradcheck(run, (*inputs(form, 1, 4, 3, 5, 2), *parameters.values()))


def sorted_sum_case(case):
    a, b = torch.randn(2, 6, dtype=torch.float64), torch.randn(2, 9, dtype=torch.float64)
    if case == "ties":
        a, b = a.mul(2).round() / 2 + 0.25, b.mul(2).round() / 2  # never a + b = 0
    if case == "all equal":
        b = torch.full_like(b, 0.3)
    if case == "all negative":
        b = b - 10
    if case == "all positive":
        b = b + 10
    if case == "far from zero":
        a, b = a + 1000, b - 1000
    return a.requires_grad_(), b.requires_grad_(), torch.randn(2, 9, 3, dtype=torch.float64)


CASES = ["random", "ties", "all equal", "all negative", "all positive", "far from zero"]


@pytest.mark.parametrize("case", CASES)
def test_sorted_sum_is_the_sum_over_pairs(case):
    a, b, g = sorted_sum_case(case)
    expected = torch.relu(a[:, :, None] + b[:, None, :]) @ g
    torch.testing.assert_close(sorted_relu_sum(a, b, g), expected, rtol=1e-9, atol=1e-11)
    assert torch.autograd.gradcheck(sorted_relu_sum, (a, b, g.requires_grad_()))


def test_sorted_sum_has_relus_gradient_at_zero():
    a = torch.tensor([[0.1, -0.2, 0.3]], dtype=torch.float64, requires_grad=True)
    b = torch.tensor([[-0.1, 0.2, -0.3, 0.7]], dtype=torch.float64, requires_grad=True)
    g = torch.randn(1, 4, 2, dtype=torch.float64, requires_grad=True)
    plain = torch.relu(a[:, :, None] + b[:, None, :]) @ g  # a_i + b_i is exactly zero
    expected, found = gradients(plain, (a, b, g)), gradients(sorted_relu_sum(a, b, g), (a, b, g))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("m", [1050, 67_200])
@pytest.mark.parametrize("form", FORMS)
def test_float32_is_near_float64(form, m):
    theta, phi, g = tensors = inputs(form, 1, 40, 32, m, 16, dtype=torch.float32)
    pairwise = build(form, 32).float()
    with torch.no_grad():  # such scores are exact, so that no ReLU's gradient depends on rounding
        for t in (theta, phi, *pairwise.parameters()):
            t.copy_((t * 16).round() / 16)
    tensors = [*tensors, *pairwise.parameters()]
    found = pairwise.fused(theta, phi, g)
    exact_pairwise = build(form, 32)
    exact_pairwise.load_state_dict(pairwise.state_dict())
    exact_tensors = [t.detach().double().requires_grad_() for t in (theta, phi, g)]
    exact = exact_pairwise.dense(*exact_tensors)
    exact_tensors = [*exact_tensors, *exact_pairwise.parameters()]

    def near(x, y):
        return (x - y).abs().max() <= 1e-4 * y.abs().max()

    assert near(found, exact)
    for x, y in zip(gradients(found, tensors), gradients(exact, exact_tensors), strict=True):
        assert x is None or near(x, y)


@pytest.mark.parametrize("way", ["dense", "fused", "forward"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("std, tolerance", [(1, 2e-2), (8, 2e-2), (100, None)])
@pytest.mark.parametrize("form", FORMS)
def test_half_precision_is_sound(form, std, tolerance, dtype, way):
    channels = 1024 if form == "gaussian" else 64
    theta, phi, g = inputs(form, 1, 30, channels, 20, 16, dtype=dtype, std=std)
    pairwise = build_pairwise(form, channels)
    with torch.autocast("cpu", dtype):
        if way == "forward" or pairwise.weights_have_fixed_sum:
            y = getattr(pairwise, way)(theta, phi, g)
        else:  # as forward calls them
            with torch.autocast("cpu", enabled=False):
                y = getattr(pairwise, way)(theta.float(), phi.float(), g.float())
    assert y.isfinite().all()
    if tolerance:  # at 100 the gradients themselves pass fp16's range
        assert all(t is None or t.isfinite().all() for t in gradients(y, (theta, phi, g)))
        exact = pairwise.double().dense(theta.double(), phi.double(), g.double())
        assert (y.double() - exact).abs().max() <= tolerance * exact.abs().max()


RES4, RES4_POOLED = (1, 4200, 512, 4200, 512), (1, 4200, 512, 1050, 512)
RES3, RES3_POOLED = (1, 16800, 256, 16800, 256), (1, 16800, 256, 4200, 256)
ROIS, ROIS_POOLED = (100, 196, 256, 196, 256), (100, 196, 256, 49, 256)


@pytest.mark.parametrize(
    "form, fast, plain",
    [
        ("dot_product", [RES4, RES4_POOLED, RES3, RES3_POOLED], [ROIS, ROIS_POOLED]),
        ("concatenation", [RES4, RES3, RES3_POOLED], [ROIS, ROIS_POOLED]),
        ("embedded_gaussian", [RES4, RES4_POOLED, RES3, RES3_POOLED, ROIS, ROIS_POOLED], []),
        ("global_context", [RES4, RES4_POOLED, RES3, RES3_POOLED, ROIS, ROIS_POOLED], []),
    ],
)
def test_the_cheaper_way_is_taken(form, fast, plain):
    pairwise = build_pairwise(form, 4)
    for sizes in fast:
        assert pairwise.prefers_fused(Sizes(*sizes)), sizes
    for sizes in plain:
        assert not pairwise.prefers_fused(Sizes(*sizes)), sizes


@pytest.mark.parametrize(
    "sizes, trains, rows", [(RES3, False, True), (RES3, True, False), (RES4, False, False)]
)
def test_inference_converts_large_images_to_channels_last(sizes, trains, rows):
    with torch.set_grad_enabled(trains):
        assert build_pairwise("embedded_gaussian", 4).prefers_rows(Sizes(*sizes)) == rows


@pytest.mark.parametrize("form", FORMS)
def test_a_huge_matrix_is_never_made(form):
    assert build_pairwise(form, 4).prefers_fused(Sizes(1, 16_800, 2048, 16_800, 8))


@pytest.mark.parametrize("form", FORMS)
def test_the_choice_follows_the_costs(form):
    # many positions of few channels are worth another way, few positions of many are not
    pairwise = build_pairwise(form, 4)
    assert pairwise.prefers_fused(Sizes(1, 10_000, 64, 10_000, 64))
    always = ("gaussian", "embedded_gaussian", "global_context")
    assert pairwise.prefers_fused(Sizes(1, 16, 512, 16, 512)) == (form in always)


class Allocations(TorchDispatchMode):
    """Elements of the largest tensor that an operation makes, broadcast views not counted."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for t in tree_leaves(out):
            if isinstance(t, torch.Tensor):
                elements = t.untyped_storage().nbytes() // t.element_size()
                self.largest = max(self.largest, elements)
        return out


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_no_matrix_of_all_pairs(form):
    n = m = 20_000
    tensors = inputs(form, 1, n, 8, m, 8, dtype=torch.float32)
    pairwise = build_pairwise(form, 8)
    assert pairwise.prefers_fused(Sizes(1, n, 8, m, 8))
    saved = {}
    with (
        Allocations() as made,
        torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.setdefault(t.data_ptr(), t.untyped_storage().nbytes()) and t,
            lambda t: t,
        ),
    ):
        pairwise(*tensors).sum().backward()
    assert 0 < made.largest < n * m / 20
    assert 0 < sum(saved.values()) < 4 * n * m / 5


class SubnormalOperands(TorchDispatchMode):
    """Number of subnormal numbers that matrix products receive."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "baddbmm" in func.name():
            for t in args[1:3]:
                self.count += int(((t != 0) & (t.abs() < torch.finfo(t.dtype).tiny)).sum())
        return func(*args, **(kwargs or {}))


def test_softmax_sum_multiplies_no_subnormal_weights():
    theta = torch.linspace(-1, 1, 6)[None, :, None].requires_grad_()
    phi = torch.linspace(0, 150, 40)[None, :, None].requires_grad_()
    g = torch.randn(1, 40, 3, requires_grad=True)
    plain = torch.softmax(theta @ phi.transpose(1, 2), dim=-1)
    assert ((plain > 0) & (plain < torch.finfo(torch.float32).tiny)).any()
    with SubnormalOperands() as operands:
        y = softmax_module.softmax_sum(theta, phi, g)
        found = gradients(y, (theta, phi, g))
    assert operands.count == 0
    torch.testing.assert_close(y, plain @ g)
    torch.testing.assert_close(found, gradients(plain @ g, (theta, phi, g)))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_softmax_sum_keeps_what_is_not_finite(bad):
    theta, phi, g = inputs("gaussian", 1, 5, 4, 6, 3, dtype=torch.float32)
    theta = theta.detach().clone()
    theta[0, 2, 1] = bad
    assert softmax_module.softmax_sum(theta, phi, g)[0, 2].isnan().all()
