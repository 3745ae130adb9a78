"""Blocks over spacetime, space and time are the paper's sum over the positions that they name."""

from functools import partial
from itertools import product

import pytest
import torch
from fast_part import combinations, first_cases
from formula import weights_by_formula
from helpers import randomise, z_and_gradients
from layouts import LAYOUTS
from torch import nn

from nl_detectron.layers import AXES, PAIRWISE, VideoNonLocalBlock

FORMS = tuple(PAIRWISE)
PARTS = {"spacetime": {}, "space": {}, "time": {}, "groups": {"frames_per_group": 2}}
SPACE = (4, 5, 3)  # odd rows and columns, whose rest the pool lets fall
C, D = 6, 4


def make_block(parts, **options):
    axes = {"axes": "spacetime" if parts == "groups" else parts, **PARTS[parts]}
    return randomise(VideoNonLocalBlock(C, inner_channels=D, **axes, **options)).double()


def sees(parts, i, j):
    """Whether the position i = (t, h, w) of x sees the position j of what phi and g come from."""
    if parts == "time":
        return i[1:] == j[1:]
    frames = {"spacetime": SPACE[0], "space": 1, "groups": 2}[parts]
    return i[0] // frames == j[0] // frames


def block_by_positions(block, parts, x):
    """z of x (B,C,T,H,W), position by position: dictionaries of vectors, sums over those seen."""
    pooling = block.subsample if parts != "time" else "none"
    summed = []
    for clip in x:
        vectors = {at: clip[(slice(None), *at)] for at in positions(SPACE)}
        seen = pool(vectors) if pooling == "before" else vectors
        theta, phi, g = (
            {at: conv(c, v) for at, v in source.items()}
            for c, source in ((block.theta, vectors), (block.phi, seen), (block.g, seen))
        )
        if pooling == "after":
            phi, g = pool(phi), pool(g)
        groups = {}  # the positions i that see the same positions j
        for i in theta:
            groups.setdefault(tuple(j for j in phi if sees(parts, i, j)), []).append(i)
        y = {}
        for js, peers in groups.items():
            weights = weights_by_formula(
                block.pairwise,
                block.pairwise_name,
                torch.stack([theta[i] for i in peers], dim=1)[None],
                torch.stack([phi[j] for j in js], dim=1)[None],
            )[0]
            of_g = torch.stack([g[j] for j in js], dim=1)
            y |= {i: of_g @ row for i, row in zip(peers, weights, strict=True)}
        summed.append(torch.stack([conv(block.w_z, y[at]) for at in positions(SPACE)], dim=1))
    z = torch.stack(summed)  # (B,C,N)
    if block.norm is not None:
        mean = z.mean(dim=(0, 2), keepdim=True)
        var = z.var(dim=(0, 2), keepdim=True, unbiased=False)
        scale, shift = block.norm.weight[:, None], block.norm.bias[:, None]
        z = (z - mean) / (var + block.norm.eps).sqrt() * scale + shift
    return z.reshape(x.shape) + x


def positions(space):
    return list(product(*map(range, space)))


def pool(vectors):
    """The largest of every 2 x 2 positions of a frame."""
    frames, rows, columns = (1 + max(at[n] for at in vectors) for n in range(3))
    corners = list(product((0, 1), (0, 1)))
    return {
        (t, h, w): torch.stack([vectors[t, 2 * h + a, 2 * w + b] for a, b in corners]).amax(dim=0)
        for t, h, w in positions((frames, rows // 2, columns // 2))
    }


def conv(module, vector):
    if isinstance(module, nn.Identity):
        return vector
    out = module.weight.flatten(1) @ vector
    return out if module.bias is None else out + module.bias


@first_cases(1, "parts", PARTS)
@pytest.mark.parametrize("form", FORMS)
def test_block_and_gradients_are_the_sum_over_the_named_positions(form, parts, monkeypatch):
    for subsample, norm in (("before", "BN"), ("after", ""), ("none", "BN")):
        block = make_block(parts, pairwise=form, subsample=subsample, norm=norm)
        x = 0.5 * torch.randn(2, C, *SPACE, dtype=torch.float64)
        dz = torch.randn_like(x)
        expected = z_and_gradients(partial(block_by_positions, block, parts), block, x, dz)
        assert not torch.allclose(expected["z"], x)
        for fused, layout in product((False, True), LAYOUTS):
            monkeypatch.setattr(block.pairwise, "prefers_fused", lambda sizes, way=fused: way)
            found = z_and_gradients(block, block, layout(x), dz)
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("parts", PARTS)
def test_kinds_of_parts_differ(parts):
    block = make_block(parts)
    x = torch.randn(1, C, *SPACE, dtype=torch.float64)
    other = make_block("time" if parts != "time" else "space")
    other.load_state_dict(block.state_dict())  # one set of names and shapes for all axes
    assert not torch.allclose(block(x), other(x))


@combinations(parts=PARTS, form=FORMS)
def test_checkpointing_keeps_numbers(form, parts):
    block = make_block(parts, pairwise=form, norm="BN")
    x, dz = torch.randn(2, 2, C, *SPACE, dtype=torch.float64)
    expected = z_and_gradients(block, block, x, dz)
    block.checkpoint = True
    torch.testing.assert_close(z_and_gradients(block, block, x, dz), expected)


@pytest.mark.parametrize("axes", AXES)
def test_block_starts_as_the_identity(axes):
    for norm in ("", "BN"):
        block = VideoNonLocalBlock(C, axes=axes, norm=norm)
        x = torch.randn(2, C, *SPACE)
        assert torch.equal(block(x), x)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"axes": "height"}, "axes: expected one of"),
        ({"frames_per_group": -1}, "frames_per_group: expected 0 or more"),
        ({"axes": "space", "frames_per_group": 2}, "got 2 with space"),
    ],
)
def test_wrong_arguments_are_refused(options, said):
    with pytest.raises(ValueError, match=said):
        VideoNonLocalBlock(C, **options)


def test_frames_that_make_no_whole_groups_are_refused():
    block = VideoNonLocalBlock(C, frames_per_group=3)
    with pytest.raises(ValueError, match="a multiple of 3 frames"):
        block(torch.randn(1, C, 4, 4, 4))


@pytest.mark.parametrize("axes", ["space", "time"])
def test_sizes_of_images_go_with_spacetime_alone(axes):
    block = VideoNonLocalBlock(C, axes=axes)
    with pytest.raises(
        ValueError, match=f"sizes: expected None unless axes is spacetime.* with {axes}"
    ):
        block(torch.randn(1, C, 4, 4, 4), sizes=[(4, 4)])


def test_embed_gives_the_parts_as_a_batch():
    x = torch.randn(2, C, *SPACE)
    t, h, w = SPACE
    for parts, batch, n, m in (
        ("spacetime", 2, t * h * w, t * (h // 2) * (w // 2)),
        ("space", 2 * t, h * w, (h // 2) * (w // 2)),
        ("time", 2 * h * w, t, t),
        ("groups", 4, 2 * h * w, 2 * (h // 2) * (w // 2)),
    ):
        theta, phi, g = make_block(parts).float().embed(x)
        assert (theta.shape, phi.shape, g.shape) == ((batch, n, D), (batch, m, D), (batch, m, D))
