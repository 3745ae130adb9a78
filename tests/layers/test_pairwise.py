"""The pairwise functions (Eqs. 2-5, and one more), alone."""

import math

import pytest
import torch
from reference import naive_weights
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nl_detectron.layers import PAIRWISE, build_pairwise

FORMS = tuple(PAIRWISE)
B, N, M, D, E = 2, 7, 5, 3, 4


def inputs(form, b=B, n=N, m=M, d=D, e=E):
    shapes = (b, n, d), (b, m, build_pairwise(form, d).phi_channels), (b, m, e)
    return [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]


def build(form, channels=D, use_scale=True):
    pairwise = build_pairwise(form, channels, use_scale).double()
    for parameter in pairwise.parameters():
        torch.nn.init.normal_(parameter)  # of the size of theta and phi, not 0.01
    return pairwise


class LargestTensor(TorchDispatchMode):
    """The most elements of any tensor that an operation gives, views included."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        sizes = [t.numel() for t in tree_leaves(out) if isinstance(t, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return out


@pytest.mark.parametrize("use_scale", [True, False])
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_the_papers(form, use_scale):
    theta, phi, _ = inputs(form)
    pairwise = build(form, use_scale=use_scale)
    weights = pairwise.weights(*pairwise.transform_embeddings(theta, phi))
    for b in range(B):
        naive = naive_weights(pairwise, form, theta[b].detach().numpy(), phi[b].detach().numpy())
        torch.testing.assert_close(weights[b], torch.from_numpy(naive), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "form, use_scale, expected",
    [
        ("gaussian", True, math.exp(4) / (math.exp(4) + 1)),
        ("embedded_gaussian", True, math.exp(2) / (math.exp(2) + 1)),  # 4 / sqrt(4)
        ("embedded_gaussian", False, math.exp(4) / (math.exp(4) + 1)),
        ("dot_product", True, 4 / 2),  # N is the two positions of phi
        ("concatenation", True, (4 * 0.5 + 4 * 0.25) / 2),
    ],
)
def test_weights_by_hand(form, use_scale, expected):
    theta = torch.ones(1, 1, 4)
    phi = torch.stack([torch.ones(4), torch.zeros(4)])[None]
    pairwise = build_pairwise(form, 4, use_scale)
    if form == "concatenation":
        pairwise.w_f.data = torch.tensor([0.5] * 4 + [0.25] * 4)
    assert pairwise.weights(theta, phi)[0, 0, 0].item() == pytest.approx(expected, rel=1e-6)


def test_concatenation_rectifies():
    pairwise = build_pairwise("concatenation", 1)
    pairwise.w_f.data = torch.tensor([1.0, -1.0])
    theta, phi = torch.tensor([[[1.0], [3.0]]]), torch.tensor([[[2.0]]])
    assert pairwise.weights(theta, phi).tolist() == [[[0.0], [1.0]]]


@pytest.mark.parametrize("form", FORMS)
def test_forward_is_the_sum_of_weights_times_g(form):
    theta, phi, g = inputs(form)
    pairwise = build(form)
    expected = torch.einsum("bnm,bme->bne", pairwise.weights(theta, phi), g)
    torch.testing.assert_close(pairwise(theta, phi, g), expected, rtol=1e-10, atol=1e-12)


FIXED_SUMS = {"gaussian": 1, "embedded_gaussian": 1, "global_context": 1, "disentangled": 2}


@pytest.mark.parametrize("form", FIXED_SUMS)
def test_softmax_weights_have_a_fixed_sum(form):
    theta, phi, _ = inputs(form)
    sums = build(form).weights(3 * theta, 3 * phi).sum(dim=-1)
    torch.testing.assert_close(sums, torch.full_like(sums, FIXED_SUMS[form]), rtol=1e-12, atol=0)


def test_only_forms_with_a_fixed_sum_say_so():
    assert {form for form in FORMS if PAIRWISE[form].weights_have_fixed_sum} == set(FIXED_SUMS)


@pytest.mark.parametrize("form", ["gaussian", "dot_product", "concatenation", "global_context"])
def test_forms_without_a_scale_ignore_it(form):
    theta, phi, g = inputs(form)
    scaled, plain = build(form, use_scale=True), build(form, use_scale=False)
    plain.load_state_dict(scaled.state_dict())
    assert torch.equal(scaled(theta, phi, g), plain(theta, phi, g))


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_right(form):
    pairwise = build(form)
    parameters = dict(pairwise.named_parameters())  # w_f, or none

    def run(theta, phi, g, *values):
        given = dict(zip(parameters, values, strict=True))
        return functional_call(pairwise, given, (theta, phi, g))

    assert torch.autograd.gradcheck(run, (*inputs(form, b=1), *parameters.values()))


@pytest.mark.parametrize("form", FORMS)
def test_no_tensor_is_larger_than_one_weight_per_pair(form):
    # A concatenation written out is (2D,N,M): 67 GiB for one COCO image at res4.
    theta, phi, g = inputs(form, n=40, m=30)
    pairwise = build(form)
    saved = []
    with (
        LargestTensor() as largest,
        torch.autograd.graph.saved_tensors_hooks(
            lambda t: saved.append(t.numel()) or t, lambda t: t
        ),
    ):
        pairwise(theta, phi, g).sum().backward()
    assert 0 < largest.numel <= B * 40 * 30
    assert 0 < max(saved) <= B * 40 * 30


@pytest.mark.parametrize(
    "form, channels, message",
    [
        (
            "softmax",
            4,
            "expected one of gaussian, embedded_gaussian, .*global_context.*, got 'softmax'",
        ),
        ("Gaussian", 4, "got 'Gaussian'"),
        ("gaussian", 0, "channels: expected 1 or more, got 0"),
        ("dot_product", -2, "channels: expected 1 or more, got -2"),
    ],
)
def test_bad_choices_are_refused(form, channels, message):
    with pytest.raises(ValueError, match=message):
        build_pairwise(form, channels)


@pytest.mark.parametrize(
    "theta, phi, g",
    [
        ((2, 7, 4), (2, 5, 3), (2, 5, 4)),  # theta has other channels
        ((2, 7, 3), (2, 5, 3), (2, 6, 4)),  # g has other positions than phi
        ((1, 7, 3), (2, 5, 3), (2, 5, 4)),  # other batches
        ((7, 3), (5, 3), (5, 4)),  # no batch
    ],
)
def test_shapes_that_do_not_fit_are_refused(theta, phi, g):
    with pytest.raises(ValueError) as error:
        build_pairwise("dot_product", 3)(torch.ones(theta), torch.ones(phi), torch.ones(g))
    assert "expected theta (B,N,3), phi (B,M,3) and g (B,M,E)" in str(error.value)
    assert f"got {theta}, {phi} and {g}" in str(error.value)
