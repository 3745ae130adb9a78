"""C2D and I3D ResNets: layers as in Table 1, norms, frozen stages, blocks, and what is refused."""

import pytest
import torch
from fast_part import combinations, first_cases
from helpers import tiny_cfg, with_blocks
from torch import nn
from video_models import build_video_model, tiny_video_cfg

from nl_detectron.engine import build_on_meta
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.modeling.video.conv3d import normalize_clip

ARCHS = ("c2d", "i3d_3x1x1", "i3d_3x3x3")


def sizes_of(cfg, clip):
    """Size (T,H,W) of the stem's output and of the stages'."""
    cfg.MODEL.RESNETS.OUT_FEATURES = ["stem", "res2", "res3", "res4", "res5"]
    features = build_on_meta(cfg).backbone(torch.empty(1, 3, *clip, device="meta"))
    return {name: tuple(x.shape[2:]) for name, x in features.items()}


# Table 1 and, with the released code's pool1, its 55 x 55 in place of 56 x 56
@first_cases(1, "arch", ARCHS)
@pytest.mark.parametrize(
    ("strides", "pool1", "clip", "sizes"),
    [
        ("paper", "text", (32, 224, 224), [(8, 56), (8, 56), (4, 28), (4, 14), (4, 7)]),
        ("paper", "released", (32, 224, 224), [(8, 55), (8, 55), (4, 28), (4, 14), (4, 7)]),
        ("paper", "released", (32, 256, 256), [(8, 63), (8, 63), (4, 32), (4, 16), (4, 8)]),
        ("paper", "text", (128, 64, 64), [(32, 16), (32, 16), (16, 8), (16, 4), (16, 2)]),
        ("8x8", "text", (8, 224, 224), [(8, 56), (8, 56), (4, 28), (4, 14), (4, 7)]),
        ("8x8", "released", (8, 224, 224), [(8, 55), (8, 55), (4, 28), (4, 14), (4, 7)]),
        ("8x8", "released", (32, 224, 224), [(32, 55), (32, 55), (16, 28), (16, 14), (16, 7)]),
        ("paper", "slowfast", (32, 256, 256), [(8, 64), (8, 64), (4, 32), (4, 16), (4, 8)]),
        ("8x8", "slowfast", (8, 224, 224), [(8, 56), (8, 56), (4, 28), (4, 14), (4, 7)]),
        ("none", "slowfast", (8, 224, 224), [(8, 56), (8, 56), (8, 28), (8, 14), (8, 7)]),
    ],
)
def test_maps_have_the_sizes_of_table_1(arch, strides, pool1, clip, sizes):
    found = sizes_of(tiny_video_cfg(arch, STRIDES=strides, POOL1=pool1), clip)
    assert list(found.values()) == [(frames, side, side) for frames, side in sizes]


def inflated_convs(conv, res4):
    """The released code's convs with kernels in time, by stage; res4's blocks differ by depth."""
    blocks = {2: (0, 1, 2), 3: (0, 2), 4: res4, 5: (1,)}
    frames = {f"res{stage}.{n}.{conv}": 3 for stage, ns in blocks.items() for n in ns}
    return {"stem.conv1": 5, **frames}


@pytest.mark.parametrize(
    ("arch", "depth", "inflated"),
    [
        ("c2d", 50, {}),
        ("i3d_3x1x1", 50, inflated_convs("conv1", (0, 2, 4))),
        ("i3d_3x3x3", 101, inflated_convs("conv2", range(0, 23, 2))),
    ],
)
def test_the_released_codes_convs_are_inflated(arch, depth, inflated):
    backbone = build_on_meta(tiny_video_cfg(arch, depth)).backbone
    convs = {n: m.kernel_size for n, m in backbone.named_modules() if isinstance(m, nn.Conv3d)}
    assert {name: kernel[0] for name, kernel in convs.items() if kernel[0] > 1} == inflated
    assert {kernel[1:] for kernel in convs.values()} == {(7, 7), (1, 1), (3, 3)}


# --- norms, frozen stages, blocks ------------------------------------------------------------


@combinations(side=[16, 1], norm=["BN", "SyncBN", "FrozenBN", "GN"])
def test_norms_of_images_normalise_clips(norm, side):
    cfg = tiny_video_cfg()
    cfg.MODEL.RESNETS.NORM = norm
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 32  # GN's groups
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    conv = build_video_model(cfg).backbone.stem.conv1
    channels = conv.norm.num_features if norm != "GN" else 32
    x = torch.randn(2, channels, 32, side, side, dtype=torch.float64).requires_grad_()
    conv.double().train(norm != "SyncBN")  # which needs a GPU to train
    own = conv.norm
    if norm == "GN":
        mean = x.unflatten(1, (32, -1)).mean(dim=(2, 3, 4, 5), keepdim=True).flatten(1, 2)
        var = x.unflatten(1, (32, -1)).var(dim=(2, 3, 4, 5), keepdim=True, unbiased=False)
        var = var.flatten(1, 2)
    elif norm == "BN":
        mean = x.mean(dim=(0, 2, 3, 4), keepdim=True)
        var = x.var(dim=(0, 2, 3, 4), keepdim=True, unbiased=False)
    else:
        mean, var = (s.view(1, -1, 1, 1, 1) for s in (own.running_mean, own.running_var))
    weight, bias = (p.view(1, -1, 1, 1, 1) for p in (own.weight, own.bias))
    expected = (x - mean) / (var + own.eps).sqrt() * weight + bias
    found = normalize_clip(own, x)
    torch.testing.assert_close(found, expected)
    dz = torch.randn_like(found)
    grads = (torch.autograd.grad(z, x, dz)[0] for z in (found, expected))
    torch.testing.assert_close(*grads)


def test_freeze_at_freezes_as_in_detectron2():
    cfg = tiny_video_cfg("i3d_3x1x1")
    cfg.MODEL.BACKBONE.FREEZE_AT = 2
    backbone = build_model(cfg).backbone
    trained = {name.split(".")[0] for name, p in backbone.named_parameters() if p.requires_grad}
    assert trained == {"res3", "res4", "res5"}
    assert not any("norm" in name for name, _ in backbone.res2.named_parameters())


def test_blocks_are_placed_by_name_and_leave_the_rest_alone():
    cfg = tiny_video_cfg()
    torch.manual_seed(1)
    baseline = build_model(cfg)
    cfg.MODEL.NONLOCAL.NORM = "BN"
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res3.*", "res4.-2"]
    torch.manual_seed(1)
    model = build_model(cfg)
    names = ["backbone.res3.nonlocal0", "backbone.res3.nonlocal1", "backbone.res4.nonlocal0"]
    assert list(find_blocks(model)) == names
    tensors = model.state_dict()
    for name, tensor in baseline.state_dict().items():
        assert torch.equal(tensors[name], tensor), name
    clips = torch.randint(0, 256, (1, 3, 8, 64, 64))
    with torch.no_grad():
        assert torch.equal(model.eval().scores(clips), baseline.eval().scores(clips))


def test_axes_and_groups_come_from_the_config():
    cfg = tiny_video_cfg()
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res3.0", "res4.0"]
    cfg.MODEL.NONLOCAL.FRAMES_PER_GROUP = [0, 2, 0, 0]
    blocks = find_blocks(build_on_meta(cfg)).values()
    assert [(b.axes, b.frames_per_group) for b in blocks] == [("spacetime", 2), ("spacetime", 0)]
    cfg.MODEL.NONLOCAL.FRAMES_PER_GROUP = [0, 0, 0, 0]
    cfg.MODEL.NONLOCAL.AXES = "time"
    assert {b.axes for b in find_blocks(build_on_meta(cfg)).values()} == {"time"}


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("VIDEO.ARCH", "i3d", "MODEL.VIDEO.ARCH: expected one of c2d, i3d_3x1x1, i3d_3x3x3, got"),
        (
            "VIDEO.STRIDES",
            "32x2",
            "MODEL.VIDEO.STRIDES: expected one of 8x8, none, paper, got '32x2'",
        ),
        (
            "VIDEO.POOL1",
            "3x3",
            "MODEL.VIDEO.POOL1: expected one of released, slowfast, text, got '3x3'",
        ),
        ("RESNETS.DEPTH", 18, "MODEL.RESNETS.DEPTH: expected one of 26, 50, 101, 152, got 18"),
        ("RESNETS.RES5_DILATION", 3, "RES5_DILATION: expected one of 1, 2, got 3"),
        ("RESNETS.DEFORM_ON_PER_STAGE", [True] * 4, "has no deformable convs"),
        ("NONLOCAL.AXES", "height", "AXES: expected one of space, spacetime, time, got 'height'"),
        ("NONLOCAL.MASK_PADDING", True, "MASK_PADDING: the clips of a batch have one size"),
        ("NONLOCAL.FRAMES_PER_GROUP", [4], "a number of frames for each of res2 to res5"),
        ("NONLOCAL.BACKBONE.AFTER", ["res4.9"], "there is no 'res4.9'"),
    ],
)
def test_a_value_that_makes_no_model_is_refused(key, value, said):
    cfg = tiny_video_cfg()
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res4.-2"]
    cfg.merge_from_list([f"MODEL.{key}", value])
    with pytest.raises(UsageError, match=said):
        build_on_meta(cfg)


def test_groups_and_other_axes_exclude_each_other():
    cfg = tiny_video_cfg()
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res4.-2"]
    cfg.MODEL.NONLOCAL.AXES, cfg.MODEL.NONLOCAL.FRAMES_PER_GROUP = "space", [0, 4, 0, 0]
    with pytest.raises(UsageError, match=r"set it to \[0, 0, 0, 0\]"):
        build_on_meta(cfg)


def test_places_without_this_backbone_are_refused():
    cfg = tiny_video_cfg()
    cfg.MODEL.META_ARCHITECTURE = "GeneralizedRCNN"
    cfg.MODEL.BACKBONE.NAME = "build_resnet_backbone"
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.OUT_FEATURES = 50, ["res4"]
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res4.-2"]
    with pytest.raises(UsageError, match="or build_nonlocal_video_resnet_backbone"):
        build_on_meta(cfg)


@pytest.mark.parametrize(("key", "value"), [("AXES", "space"), ("FRAMES_PER_GROUP", [0, 4, 0, 0])])
def test_keys_of_video_blocks_are_refused_in_a_model_of_images(key, value):
    cfg = with_blocks(tiny_cfg(), **{key: value})
    with pytest.raises(UsageError, match=f"NONLOCAL.{key} is .*_fpn_backbone does not have"):
        build_on_meta(cfg)


def test_images_are_refused():
    model = build_video_model(tiny_video_cfg())
    with pytest.raises(ValueError, match=r"clips of shape \(B,3,T,H,W\), got \(1, 3, 64, 64\)"):
        model.backbone(torch.randn(1, 3, 64, 64))
