"""Numbers of hand-made maps, and sums without some positions against the plain loop's."""

import math

import numpy as np
import pytest
import torch
from formula import weights_by_formula
from helpers import randomise

from nl_detectron.attention import (
    Attention,
    Grid,
    above_uniform,
    area_share,
    is_flat,
    mask_positions,
    mean_distance,
    peak,
    share,
    strongest,
)
from nl_detectron.layers import PAIRWISE, NonLocalBlock


def attention(weights, values=None, point=(5.0, 5.0), grid=None):
    weights = np.array(weights, dtype=float)
    grid = grid or Grid((0, 0), (10, 10), weights.shape)
    values = np.ones_like(weights) if values is None else np.array(values, dtype=float)
    return Attention("block", "form", grid, point, weights, values)


MAP = attention([[0.1, 0.2], [0.3, 0.4]], values=[[1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 20, 20), 1.0),
        ((10, 0, 20, 20), 0.6),
        ((0, 0, 10, 5), 0.05),  # half a cell
        ((15, 15, 99, 99), 0.1),
        ((20, 0, 30, 20), 0.0),
    ],
)
def test_a_share_counts_cells_by_the_part_inside_the_box(box, expected):
    assert share(MAP, box) == pytest.approx(expected)


def test_shares_of_contributions_and_of_area():
    assert share(MAP, (0, 0, 10, 10), "contributions") == 1
    assert share(MAP, (10, 10, 20, 20), "contributions") == 0
    assert area_share(MAP, (0, 0, 10, 5)) == pytest.approx(0.125)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ([[1, 1, 1, 1]], 1),
        ([[0.1, 0.2, 0.3, 0.4]], 1.6),
        ([[0, 0, 0, 1]], 4),
        ([[-1, -1, -1, -3]], 2),  # of one sign
        ([[2, -1, 1, -1]], 8),  # of both
        ([[1, -1, 1, -1]], math.inf),
        ([[0, 0, 0, 0]], 1),
    ],
)
def test_the_peak_is_the_largest_weight_over_the_mean(weights, expected):
    assert peak(attention(weights)) == pytest.approx(expected)
    assert is_flat(attention(weights)) == (expected < 2)


def test_above_uniform_are_the_strongest_of_more_than_the_mean_unless_all_are_flat():
    assert [w for *_, w in above_uniform(attention([[7, 2, 2, 1, 0, 0]]))] == [7]
    assert [w for *_, w in above_uniform(attention([[7, -6, 1, 1, 0, 0]]), 1)] == [7]
    assert above_uniform(MAP) == []


def test_signed_weights_count_by_their_size():
    signed = attention([[-3, 1]])
    assert signed.signed and not MAP.signed
    assert share(signed, (0, 0, 10, 10)) == pytest.approx(0.75)
    assert mean_distance(signed) == pytest.approx(0.25 * 10)
    assert [w for *_, w in strongest(signed)] == [-3, 1]


def test_mean_distance_is_in_pixels_of_the_image():
    assert mean_distance(attention([[1, 0]])) == 0
    mirrored = attention([[0, 1]], grid=Grid((0, 0), (-30, 30), (1, 2)))
    assert mean_distance(mirrored) == math.hypot(50, 10)
    far = attention([[0, 0], [0, 1]], grid=Grid((0, 0), (30, 40), (2, 2)), point=(15, 20))
    assert mean_distance(far) == pytest.approx(50)


def test_the_strongest_come_first_and_are_as_many_as_asked():
    assert strongest(MAP, 2) == [(15.0, 15.0, 0.4), (5.0, 15.0, 0.3)]
    assert len(strongest(MAP, 20)) == 4
    assert strongest(attention([[1, 0, 0.0005, -0.5]])) == [(5, 5, 1), (35, 5, -0.5)]


# --- grids ---------------------------------------------------------------------------------------


def test_a_grid_tells_where_its_positions_are():
    grid = Grid((10, 20), (4, 8), (2, 3))
    assert grid.box == (10, 20, 22, 36)
    assert grid.centres()[1, 2].tolist() == [20, 32]
    assert grid.nearest(20, 32) == (1, 2) and grid.nearest(-99, 99) == (1, 0)


def test_a_mirrored_grid_counts_from_the_right():
    grid = Grid((0, 0), (4, 8), (2, 3)).mapped((-1, 1), (12, 0))
    assert grid.box == (0, 0, 12, 16)
    assert grid.centres()[0, 0].tolist() == [10, 4]
    assert grid.nearest(1, 1) == (0, 2)
    assert grid.covered((0, 0, 4, 16)).tolist() == [[0, 0, 1], [0, 0, 1]]


def test_a_pooled_grid_leaves_out_an_odd_row_and_column():
    grid = Grid((0, 0), (4, 8), (5, 7)).pooled((2, 3))
    assert grid.box == (0, 0, 24, 32) and grid.step == (8, 16)


def test_every_centre_is_nearest_to_its_own_position():
    grid = Grid((3, -2), (-2.5, 7), (4, 5))
    for row, column in np.ndindex(grid.shape):
        assert grid.nearest(*grid.centres()[row, column]) == (row, column)


# --- without some positions ----------------------------------------------------------------------


@pytest.mark.parametrize("subsample", ["before", "none"])
@pytest.mark.parametrize("form", PAIRWISE)
def test_without_positions_the_rest_is_summed_and_renormalised(form, subsample):
    block = randomise(NonLocalBlock(6, pairwise=form, subsample=subsample), std=0.5).double()
    if form == "concatenation":  # clear of ReLU's zero
        block.pairwise.w_f.data.abs_()
        block.theta.bias.data += 2
    x = torch.rand(1, 6, 4, 6, dtype=torch.double)
    theta, phi, g = block.embed(x)
    left_out = torch.zeros(phi.shape[1], dtype=torch.bool)
    left_out[[0, 3]] = True
    keep = ~left_out
    rows = theta.transpose(1, 2), phi[:, keep].transpose(1, 2)
    weights = weights_by_formula(block.pairwise, form, *rows)
    y = (weights @ g[:, keep]).transpose(1, 2).unflatten(2, (4, 6))
    expected = x + block.w_z(y)
    whole = block(x)
    with mask_positions(block, left_out):
        assert torch.allclose(block(x), expected, rtol=1e-5, atol=1e-8)
        assert not torch.allclose(expected, whole)
    assert torch.equal(block(x), whole)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [(np.ones(24, bool), "some positions to be left of 24"), (np.zeros(5, bool), "of 24.*got 5")],
)
def test_positions_that_do_not_fit_are_refused(left_out, message):
    block = NonLocalBlock(6, subsample="none")
    with pytest.raises(ValueError, match=message), mask_positions(block, left_out):
        block(torch.rand(1, 6, 4, 6))


@pytest.mark.parametrize("form", PAIRWISE)
def test_padding_is_not_among_the_positions(form):
    block = randomise(NonLocalBlock(6, pairwise=form), std=0.5).double()
    x = torch.rand(1, 6, 4, 6, dtype=torch.double)
    left_out = torch.arange(6) % 3 == 0
    padded = torch.nn.functional.pad(x, (0, 2, 0, 4), value=3.0)
    with mask_positions(block, left_out):
        expected, found = block(x), block(padded, sizes=[(4, 6)])
    assert torch.allclose(found[..., :4, :6], expected)


def test_positions_of_images_of_several_sizes_are_refused():
    block, x = NonLocalBlock(6), torch.rand(2, 6, 4, 6)
    with (
        pytest.raises(ValueError, match="images of one size"),
        mask_positions(block, np.zeros(6, bool)),
    ):
        block(x, sizes=[(4, 6), (4, 4)])
