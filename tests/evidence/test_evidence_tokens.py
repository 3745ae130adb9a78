"""The harder relay on tokens: nothing but the block carries what a signal says to its object."""

import pytest
import torch
from torch import nn

from benchmarks.evidence.runs import FORMS
from benchmarks.evidence.tokens import COLOURS, TEXTURES, Relay, Tokens, perform, table


def test_an_object_is_like_another_of_its_texture_whatever_its_colour():
    torch.manual_seed(0)
    tokens = Tokens(pairs=TEXTURES)  # all textures in every sample
    x, colours = tokens(500)
    objects, signals = x[..., 0].transpose(1, 2).split([TEXTURES, len(x[0, 0]) - TEXTURES], dim=1)
    assert objects.shape[1] == TEXTURES and colours.unique().tolist() == list(range(COLOURS))
    own = signals[:, :TEXTURES]
    for features, selects in ((objects, False), (own, True)):
        means = torch.stack([features[colours == c].mean(dim=0) for c in range(COLOURS)])
        spread = means.std(dim=0).max() / features.std()
        assert (spread > 0.3) == selects


def test_positions_are_on_their_own_but_for_the_block():
    torch.manual_seed(0)
    model, (x, _) = Relay("gaussian"), Tokens(pairs=2)(4)
    nn.init.normal_(model.block.w_z.weight)
    other = x.clone()
    other[:, :, 2:4] = 0  # no signals
    assert not torch.allclose(model(x)[..., :2], model(other)[..., :2])
    model.block = nn.Identity()
    assert torch.equal(model(x)[..., :2], model(other)[..., :2])


@pytest.mark.parametrize("form", FORMS)
def test_untrained_forms_know_nothing(form):
    found = perform(pairs=4, form=form, seed=1, iterations=2)
    assert 0.2 < found["right"] < 0.5
    if form in ("embedded_gaussian", "concatenation", "global_context"):  # even, or for all alike
        assert found["own"] == pytest.approx(1 / 4, abs=0.02)


def test_the_table_is_of_means_and_ranges():
    runs = [
        {"pairs": n, "form": form, "seed": seed, "right": 0.5 + seed / 10, "own": 0.25}
        for n in (1, 2, 4)
        for form in FORMS
        for seed in (1, 3)
    ]
    [row] = [line for line in table(runs).splitlines() if line.startswith("| gaussian")]
    cells = [cell.strip() for cell in row.split("|")[1:-1]]
    assert cells[1:] == ["70.0 (60.0 to 80.0)"] * 3 + ["25.0 (25.0 to 25.0)"] * 2
