"""Blocks from elsewhere give here what they give there, or are refused."""

import pytest
import torch
from elsewhere import DOT, EMBEDDED, cases, difference, named, weights
from peers import PYTORCHVIDEO, mmcv_cases, peer_difference, pytorchvideo_cases

from nl_detectron.convert import convert_block
from nl_detectron.engine import UsageError

EXACT = 1e-12


def of_case(case) -> str:
    return "-".join(str(getattr(part, "__name__", part)) for part in case)


@pytest.mark.parametrize("case", list(cases()), ids=of_case)
def test_a_block_gives_what_it_gave(case):
    different, moved = difference(case)
    assert moved > 0.1  # it is no identity
    assert different < EXACT


@pytest.mark.parametrize("case", [*mmcv_cases(), *pytorchvideo_cases()], ids=of_case)
def test_another_projects_own_module_gives_the_same(case):
    pytest.importorskip(case[0], reason="make setup-peers installs it")
    different, moved = peer_difference(case)
    assert moved > 0.1
    assert different < EXACT


@pytest.mark.parametrize("source", ["slowfast", "caffe2"])
def test_a_block_of_videos_gives_for_an_image_what_it_gave_for_its_one_frame(source):
    different, _ = difference((source, EMBEDDED, "before", True, "BN", 3), ndim=2)
    assert different < EXACT


def test_pytorchvideos_own_module_gives_the_same_for_an_image():
    pytest.importorskip(PYTORCHVIDEO, reason="make setup-peers installs it")
    different, _ = peer_difference(next(pytorchvideo_cases()), ndim=2)
    assert different < EXACT


def test_convs_without_biases_are_taken_over():
    p = {name: t for name, t in weights(DOT, "").items() if not name.endswith(".b")}
    tensors, _ = convert_block(
        named(p, "caffe2", "none", "", 3), "caffe2", pairwise=DOT, subsample="none"
    )
    assert not any(tensors[f"{name}.bias"].any() for name in ("theta", "phi", "g", "w_z"))


# --- what is refused -------------------------------------------------------------------------


def tensors_of(source, form=EMBEDDED, pooled="none", norm="", **changed):
    found = named(weights(form, norm), source, pooled, norm, 3 if source != "mmcv" else 2)
    found |= changed
    return {name: tensor for name, tensor in found.items() if tensor is not None}


SAID = {
    "mmcv": {"pairwise": EMBEDDED, "use_scale": True},
    "slowfast": {"pairwise": EMBEDDED, "subsample": "none"},
    "caffe2": {"pairwise": EMBEDDED, "subsample": "none", "use_scale": True},
}
WIDE = torch.zeros(4, 8, 3, 1, 1)


@pytest.mark.parametrize(
    ("source", "made", "said", "message"),
    [
        # what tensors do not tell is asked for, all at once
        ("mmcv", {}, {"pairwise": None, "use_scale": None}, "--pairwise .*mode.*use_scale"),
        (
            "slowfast",
            {},
            {"pairwise": None, "subsample": None},
            "INSTANTIATION.*--subsample before",
        ),
        ("caffe2", {}, {"use_scale": None}, r"--scale\|--no-scale \(NONLOCAL.USE_SCALE"),
        ("mmcv", {"norm": "GN"}, {}, "--norm GN .*num_groups=32"),
        # what is said and not so
        ("mmcv", {"pooled": "after"}, {"subsample": "before"}, "of this block it is 'after'"),
        ("mmcv", {"form": "gaussian"}, {"use_scale": None}, "of this block it is 'gaussian'"),
        ("slowfast", {}, {"subsample": "after"}, "it is 'before' or 'none'"),
        ("slowfast", {}, {"use_scale": False}, "use_scale: False was said.* it is True"),
        ("caffe2", {}, {"pairwise": DOT}, "only embedded_gaussian is scaled"),
        ("slowfast", {"norm": "BN"}, {"norm": "GN"}, "norm: 'GN' was said.* it is 'BN'"),
        # what there is no block for here
        ("mmcv", {"conv_out.conv.bias": None}, {}, "norm follows it, of which there are no"),
        ("mmcv", {"conv_out.ln.weight": torch.ones(8)}, {}, "'conv_out.ln.weight' is no tensor"),
        ("mmcv", {"norm": "GN"}, {"norm": "GN"}, "W_z has a bias before its GroupNorm"),
        ("slowfast", {"bn.weight": torch.ones(8)}, {}, "no running statistics"),
        ("slowfast", {"conv_theta.weight": WIDE}, {}, r"theta.weight: expected \(4, 8\)"),
        ("slowfast", {"norm": "BN", "bn.running_var": None}, {}, "lacks .*running_var"),
        ("caffe2", {"theta_w": None, "phi_w": None}, {}, "lacks .*theta.weight and phi.weight"),
        ("caffe2", {"phi_w": None}, {}, "lacks what here is phi.weight"),
        ("caffe2", {"out_w": None}, {}, "lacks what here is w_z.weight"),
    ],
)
def test_what_cannot_be_taken_over_exactly_is_refused(source, made, said, message):
    with pytest.raises(UsageError, match=message):
        convert_block(tensors_of(source, **made), source, **{**SAID[source], **said})


@pytest.mark.parametrize("source", SAID)
def test_the_same_without_a_fault_is_taken(source):
    convert_block(tensors_of(source), source, **SAID[source])


def test_an_unknown_source_is_told():
    with pytest.raises(UsageError, match="expected one of mmcv, slowfast, caffe2, got 'timm'"):
        convert_block({}, "timm")
