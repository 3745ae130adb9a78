"""Arguments and inputs that a block refuses."""

import pytest
import torch

from nl_detectron.layers import NonLocalBlock


def test_frozen_norm_is_refused_with_the_reason():
    with pytest.raises(ValueError, match=r"scale zero and never changes,.* '' .* BN"):
        NonLocalBlock(32, norm="FrozenBN")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"in_channels": 0}, "in_channels: expected 1 or more, got 0"),
        ({"inner_channels": 0}, "inner_channels: expected 1 or more, or None, got 0"),
        ({"inner_channels": -4}, "inner_channels: expected 1 or more, or None, got -4"),
        ({"pairwise": "embedded"}, "pairwise: expected one of .*embedded_gaussian.* got 'embedded"),
        ({"subsample": "max"}, "subsample: expected one of .*'before', 'after', 'none'.* got 'max"),
        ({"subsample": None}, "subsample: expected one of .* got None"),
        ({"norm": "Bn"}, "norm: expected one of .*'SyncBN'.* got 'Bn'"),
        ({"norm": None}, "norm: expected one of .* got None"),
        ({"ndim": 4}, r"ndim: expected one of \(1, 2, 3\), got 4"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        NonLocalBlock(**{"in_channels": 8, **arguments})


@pytest.mark.parametrize(
    "ndim, shape, message",
    [
        (2, (8, 4, 4), r"expected x of shape \(B,8,H,W\), got \(8, 4, 4\)"),
        (2, (2, 8, 3, 4, 4), r"expected x of shape \(B,8,H,W\), got \(2, 8, 3, 4, 4\)"),
        (1, (2, 8, 4, 4), r"expected x of shape \(B,8,W\), got \(2, 8, 4, 4\)"),
        (3, (2, 8, 4, 4), r"expected x of shape \(B,8,T,H,W\), got \(2, 8, 4, 4\)"),
        (2, (2, 4, 4, 8), r"expected x of shape \(B,8,H,W\), got \(2, 4, 4, 8\)"),
        (2, (2, 8, 1, 4), r"expected at least 2 positions per side .* got \(2, 8, 1, 4\)"),
        (2, (2, 8, 4, 1), r"expected at least 2 positions per side .* got \(2, 8, 4, 1\)"),
        (1, (2, 8, 1), r"expected at least 2 positions per side .* got \(2, 8, 1\)"),
        (3, (2, 8, 4, 4, 1), r"expected at least 2 positions per side .* got \(2, 8, 4, 4, 1\)"),
    ],
)
def test_bad_inputs_are_refused(ndim, shape, message):
    with pytest.raises(ValueError, match=message):
        NonLocalBlock(8, ndim=ndim)(torch.zeros(shape))
