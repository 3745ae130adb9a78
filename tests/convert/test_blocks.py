"""Blocks from elsewhere give here what they give there, or are refused."""

import pytest
import torch
from elsewhere import DOT, EMBEDDED, cases, difference, named, weights

from nl_detectron.convert import convert_block
from nl_detectron.engine import UsageError
from nl_detectron.layers import NonLocalBlock

EXACT = 1e-12


@pytest.mark.parametrize("case", list(cases()), ids=lambda case: "-".join(map(str, case)))
def test_a_block_gives_what_it_gave(case):
    different, moved = difference(case, case[-1], convert_block, NonLocalBlock)
    assert moved > 0.1  # it is no identity
    assert different < EXACT


@pytest.mark.parametrize("source", ["slowfast", "caffe2"])
def test_a_block_of_videos_gives_for_an_image_what_it_gave_for_its_one_frame(source):
    case = (source, EMBEDDED, "before", True, "BN", 3)
    different, _ = difference(case, 2, convert_block, NonLocalBlock)
    assert different < EXACT


@pytest.mark.parametrize("norm", ["", "BN", "GN"])
@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("form", [EMBEDDED, DOT, "gaussian", "concatenation"])
def test_mmcvs_own_block_gives_the_same(form, pooled, norm):
    assert mmcv_difference(form, pooled, norm) < EXACT


@pytest.mark.parametrize("ndim", [1, 3])
def test_mmcvs_own_blocks_of_other_dimensions_give_the_same(ndim):
    assert mmcv_difference(EMBEDDED, True, "BN", ndim=ndim) < EXACT


def test_mmcvs_own_block_without_a_scale_gives_the_same():
    assert mmcv_difference(EMBEDDED, True, "BN", scaled=False) < EXACT


def mmcv_difference(form, pooled, norm, ndim=2, scaled=True) -> float:
    """Of outputs of mmcv's module and of ours with its weights."""
    bricks = pytest.importorskip("mmcv.cnn.bricks.non_local", reason="mmcv is not installed")
    norm_cfg = {"": None, "BN": {"type": f"BN{ndim}d"}, "GN": {"type": "GN", "num_groups": 32}}
    theirs = getattr(bricks, f"NonLocal{ndim}d")(
        64, sub_sample=pooled, use_scale=scaled, norm_cfg=norm_cfg[norm], mode=form
    )
    theirs = theirs.double().eval()
    for name, tensor in theirs.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3)
    said = {"pairwise": form if form in (EMBEDDED, DOT) else None, "norm": norm or None}
    said["use_scale"] = scaled if form == EMBEDDED else None
    tensors, options = convert_block(theirs.state_dict(), "mmcv", ndim=ndim, **said)
    ours = NonLocalBlock(**options, ndim=ndim).double().eval()
    ours.load_state_dict(tensors)
    x = torch.randn(2, 64, *(2, 5, 6)[-ndim:]).double() / 4
    with torch.no_grad():
        return (theirs(x) - ours(x)).abs().max().item()


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
