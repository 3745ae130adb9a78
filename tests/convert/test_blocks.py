"""Blocks from elsewhere give here what they give there, or are refused."""

import pytest
import torch
from block_equations import DOT, EMBEDDED, cases, difference, make_weights, rename_tensors
from peers import PYTORCHVIDEO, mmcv_cases, peer_difference, pytorchvideo_cases

from nl_detectron.convert import convert_block
from nl_detectron.errors import UsageError

EXACT = 1e-12


def of_case(case) -> str:
    return "-".join(str(getattr(part, "__name__", part)) for part in case)


@pytest.mark.parametrize("case", list(cases()), ids=of_case)
def test_a_block_gives_what_it_gave(case):
    different, moved = difference(case)
    assert moved > 0.1  # it is no identity
    assert different < EXACT


@pytest.mark.slow
@pytest.mark.parametrize("case", [*mmcv_cases(), *pytorchvideo_cases()], ids=of_case)
def test_another_projects_own_module_gives_the_same(case):
    pytest.importorskip(case[0], reason="make setup-peers installs it")
    different, moved = peer_difference(case)
    assert moved > 0.1
    assert different < EXACT


@pytest.mark.parametrize("source", ["slowfast", "caffe2"])
def test_a_block_of_videos_gives_for_an_image_what_it_gave_for_its_one_frame(source):
    different, _ = difference((source, EMBEDDED, "before", "divided", "BN", 3), ndim=2)
    assert different < EXACT


def test_pytorchvideos_own_module_gives_the_same_for_an_image():
    pytest.importorskip(PYTORCHVIDEO, reason="make setup-peers installs it")
    different, _ = peer_difference(next(pytorchvideo_cases()), ndim=2)
    assert different < EXACT


def test_convs_without_biases_are_taken_over():
    p = {name: t for name, t in make_weights(DOT, "").items() if not name.endswith(".b")}
    tensors, _ = convert_block(
        rename_tensors(p, "caffe2", "none", "", 3), "caffe2", pairwise=DOT, subsample="none"
    )
    assert not any(tensors[f"{name}.bias"].any() for name in ("theta", "phi", "g", "w_z"))


# --- what is refused -------------------------------------------------------------------------


def tensors_of(source, form=EMBEDDED, pooled="none", norm="", **changed):
    found = rename_tensors(
        make_weights(form, norm), source, pooled, norm, 3 if source != "mmcv" else 2
    )
    found |= changed
    return {name: tensor for name, tensor in found.items() if tensor is not None}


GIVEN = {
    "mmcv": {"pairwise": EMBEDDED, "scale": "divided"},
    "slowfast": {"pairwise": EMBEDDED, "pool": (1, 1, 1)},
    "caffe2": {"pairwise": EMBEDDED, "subsample": "none", "scale": "divided"},
}
WIDE = torch.zeros(4, 8, 3, 1, 1)


@pytest.mark.parametrize(
    ("source", "made", "given", "message"),
    [
        # what tensors do not tell is asked for, all at once
        ("mmcv", {}, {"pairwise": None, "scale": None}, "--pairwise .*mode.*--scale .*use_scale"),
        ("mmcv", {}, {"scale": None}, r"--scale divided\|none\|multiplied .*GCNet"),
        (
            "slowfast",
            {},
            {"pairwise": None, "pool": None},
            r"INSTANTIATION.*--pool 1,2,2\|1,1,1 \(NONLOCAL.POOL",
        ),
        ("caffe2", {}, {"scale": None}, r"--scale divided\|none \(NONLOCAL.USE_SCALE"),
        ("mmcv", {"norm": "GN"}, {}, r"--groups 32 \(norm_cfg's num_groups"),
        # what is given and not so
        ("mmcv", {"pooled": "after"}, {"subsample": "before"}, "expected after .*, got before"),
        ("mmcv", {"form": "gaussian"}, {"scale": None}, "expected gaussian .*, got embedded_gauss"),
        ("slowfast", {}, {"scale": "none"}, "scale: expected divided .*, got none"),
        ("slowfast", {}, {"scale": "multiplied"}, "scale: expected divided .*, got multiplied"),
        ("caffe2", {}, {"scale": "multiplied"}, "scale: expected divided or none .*, got multipl"),
        # what is given and does not apply
        ("slowfast", {}, {"subsample": "before"}, "got before, .* block are pairwise, pool, scale"),
        ("caffe2", {}, {"pool": (1, 2, 2)}, "pool: got 1,2,2, .* block are pairwise, sub"),
        ("caffe2", {}, {"pairwise": DOT}, "got divided, .* block are pairwise, subsample$"),
        ("slowfast", {"norm": "BN"}, {"groups": 32}, "groups: got 32, .* block are pairwise, pool"),
        # pools and groups that no tensor shows
        ("slowfast", {}, {"pool": (1, 3, 3)}, "pool: expected 1,2,2 or 1,1,1 .*, got 1,3,3"),
        ("slowfast", {}, {"pool": (2, 2, 2)}, "pool: expected 1,2,2 or 1,1,1 .*, got 2,2,2"),
        ("mmcv", {"norm": "GN"}, {"groups": 16}, "groups: expected 32 .*, got 16"),
        # what there is no block for here
        ("mmcv", {"conv_out.conv.bias": None}, {}, "norm follows it, but the norm has no"),
        ("mmcv", {"conv_out.ln.weight": torch.ones(8)}, {}, "'conv_out.ln.weight' is no tensor"),
        ("mmcv", {"norm": "GN"}, {"groups": 32}, "W_z has a bias before its GroupNorm"),
        ("slowfast", {"bn.weight": torch.ones(8)}, {}, "no running statistics"),
        ("slowfast", {"conv_theta.weight": WIDE}, {}, r"theta.weight: expected \(4, 8\)"),
        ("slowfast", {"norm": "BN", "bn.running_var": None}, {}, "lacks .*running_var"),
        ("caffe2", {"theta_w": None, "phi_w": None}, {}, "lacks .*theta.weight and phi.weight"),
        ("caffe2", {"phi_w": None}, {}, "lacks the tensors for phi.weight"),
        ("caffe2", {"out_w": None}, {}, "lacks the tensors for w_z.weight"),
    ],
)
def test_what_cannot_be_taken_over_exactly_is_refused(source, made, given, message):
    with pytest.raises(UsageError, match=message):
        convert_block(tensors_of(source, **made), source, **{**GIVEN[source], **given})


@pytest.mark.parametrize("source", GIVEN)
def test_the_same_without_a_fault_is_taken(source):
    convert_block(tensors_of(source), source, **GIVEN[source])


def test_an_unknown_source_is_reported():
    with pytest.raises(UsageError, match=r"expected one of mmcv, .*slowfast, .*, got 'keras'"):
        convert_block({}, "keras")
    with pytest.raises(UsageError, match="timm has no non-local blocks"):
        convert_block({}, "timm")
