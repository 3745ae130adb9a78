"""C2D and I3D ResNets: layers as in Table 1, inflation, and Detectron2's 2-D ResNet on stills."""

import pickle

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model as build_detectron2_model
from helpers import tiny_cfg, with_blocks
from torch import nn
from video_models import build_video_model, randomise_batch_norms, tiny_video_cfg

from nl_detectron.engine import Checkpointer, build_on_meta
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
@pytest.mark.parametrize("arch", ARCHS)
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


# --- a clip of one repeated image ------------------------------------------------------------


def image_model(cfg):
    """Detectron2's own 2-D ResNet of the same keys, with random weights and norms."""
    plain = get_cfg()
    plain.MODEL.DEVICE = "cpu"
    plain.MODEL.RESNETS = cfg.MODEL.RESNETS.clone()
    plain.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    plain.MODEL.BACKBONE.FREEZE_AT = 0
    plain.MODEL.RPN.IN_FEATURES = plain.MODEL.ROI_HEADS.IN_FEATURES = ["res4"]
    torch.manual_seed(2)
    return randomise_batch_norms(build_detectron2_model(plain)).backbone.eval()


def save_pkl(resnet, path):
    """As Detectron2's ImageNet files of torchvision's models."""
    tensors = {name: tensor.numpy() for name, tensor in resnet.state_dict().items()}
    content = {"model": tensors, "__author__": "torchvision", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    return str(path)


def save_pth(resnet, path):
    torch.save({f"backbone.{n}": tensor for n, tensor in resnet.state_dict().items()}, path)
    return str(path)


def edges(backbone, stage):
    """Frames at each end of a stage's map that zeros beyond the clip's ends reach, by the convs'
    kernels and the strides in time."""
    reach, stride = 0, 1
    for name, module in backbone.named_modules():
        if name.startswith(f"res{stage + 1}"):
            break
        if name == "res3":  # pool2 comes before
            reach, stride = reach + stride * (backbone.pool2.kernel_size[0] // 2), 2 * stride
        if isinstance(module, nn.Conv3d):
            reach, stride = reach + stride * (module.kernel_size[0] // 2), stride * module.stride[0]
        if isinstance(module, nn.MaxPool3d) and name == "stem.pool1":
            reach += stride * (module.kernel_size[0] // 2)
            stride *= module.stride[0]
    return -(-reach // stride)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("arch", "depth", "strides", "frames"),
    [
        ("c2d", 50, "paper", 16),
        ("c2d", 50, "8x8", 4),
        ("i3d_3x1x1", 50, "8x8", 48),
        ("i3d_3x3x3", 50, "8x8", 48),
        ("i3d_3x1x1", 50, "paper", 176),
    ],
)
def test_a_repeated_image_has_the_output_of_detectron2s_resnet(
    arch, depth, strides, frames, dtype, tmp_path
):
    cfg = tiny_video_cfg(arch, depth, STRIDES=strides)
    resnet = image_model(cfg).to(dtype)
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    model = build_video_model(cfg).to(dtype)
    checkpointer = Checkpointer(model)
    checkpointer.load(save_pkl(resnet, tmp_path / "R.pkl"))
    assert set(checkpointer.fresh) == {"linear.weight", "linear.bias"}
    assert list(checkpointer.unused) == []

    image = torch.randn(1, 3, 64, 64, dtype=dtype)
    with torch.no_grad():
        expected = resnet(image)
        backbone = model.backbone.eval()
        found = backbone(image.unsqueeze(2).expand(-1, -1, frames, -1, -1))
    for stage, (name, clip) in enumerate(found.items(), start=2):
        lost = edges(backbone, stage) if arch != "c2d" else 0
        inner = clip[:, :, lost : clip.shape[2] - lost]
        assert inner.shape[2] >= 1
        still = expected[name].unsqueeze(2).expand_as(inner)
        tolerance = 1e-12 if dtype == torch.float64 else 1e-5
        error = (inner - still).abs().max() / still.abs().max()
        assert error < tolerance, (name, error)
        if lost:  # a plane of the kernels lies beyond the first frame
            assert (clip[:, :, 0] - still[:, :, 0]).abs().max() > 1e-3 * still.abs().max()


def test_a_pth_file_is_inflated_as_a_pkl_file_is(tmp_path):
    cfg = tiny_video_cfg("i3d_3x3x3", 50)
    resnet = image_model(cfg)
    models = []
    for save in (save_pkl, save_pth):
        models.append(build_video_model(cfg, seed=len(models)))
        checkpointer = Checkpointer(models[-1])
        checkpointer.load(save(resnet, tmp_path / f"R.{save.__name__[-3:]}"))
        assert set(checkpointer.fresh) == {"linear.weight", "linear.bias"}
    pkl, pth = (model.backbone.state_dict() for model in models)
    for name, tensor in pkl.items():
        assert torch.equal(tensor, pth[name]), name
    planes = pkl["res3.0.conv2.weight"]
    assert planes.shape[2] == 3
    torch.testing.assert_close(3 * planes[:, :, 1], resnet.state_dict()["res3.0.conv2.weight"])


def test_the_stem_in_time_sees_the_paddings_zeros_at_the_ends_alone():
    model = build_video_model(tiny_video_cfg("i3d_3x1x1", STRIDES="8x8")).double()
    conv = model.backbone.stem.conv1.eval()
    plane = conv.weight.detach()[:, :, 0].clone()
    conv.weight.data = (plane / 5).unsqueeze(2).repeat(1, 1, 5, 1, 1)
    image = torch.randn(1, 3, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        clip = nn.Conv3d.forward(conv, image.unsqueeze(2).expand(-1, -1, 7, -1, -1))
        still = nn.functional.conv2d(image, plane, stride=2, padding=3)
    # the shares of the five planes that lie within the clip
    for frame, share in enumerate([3 / 5, 4 / 5, 1, 1, 1, 4 / 5, 3 / 5]):
        torch.testing.assert_close(clip[:, :, frame], share * still)


def test_a_c2ds_weights_are_inflated_too(tmp_path):
    c2d = build_video_model(tiny_video_cfg("c2d"))
    torch.save({"model": c2d.state_dict()}, tmp_path / "c2d.pth")
    i3d = build_video_model(tiny_video_cfg("i3d_3x3x3"), seed=3)
    checkpointer = Checkpointer(i3d)
    checkpointer.load(str(tmp_path / "c2d.pth"))
    assert list(checkpointer.fresh) == list(checkpointer.unused) == []
    flat, planes = (m.backbone.res3[0].conv2.weight.detach() for m in (c2d, i3d))
    torch.testing.assert_close(planes, (flat / 3).expand_as(planes))


def test_an_i3ds_own_weights_are_loaded_as_they_are(tmp_path):
    model = build_video_model(tiny_video_cfg("i3d_3x1x1"))
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    again = build_video_model(tiny_video_cfg("i3d_3x1x1"), seed=3)
    Checkpointer(again).load(str(tmp_path / "model.pth"))
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.slow
def test_real_imagenet_weights_load_whole(shared):
    cfg = tiny_video_cfg("i3d_3x1x1", 50)
    resnet = cfg.MODEL.RESNETS
    resnet.WIDTH_PER_GROUP = resnet.STEM_OUT_CHANNELS = 64
    resnet.RES2_OUT_CHANNELS = 256
    model = build_model(cfg)
    checkpointer = Checkpointer(model)
    checkpointer.load(str(shared / "weights" / "R-50.pth"))
    fresh = {name for name in checkpointer.fresh if "running_" not in name}
    assert fresh <= {"linear.weight", "linear.bias"} | {n for n in fresh if "num_batches" in n}
    stem = model.backbone.stem.conv1.weight.detach()
    assert torch.equal(stem[:, :, 0], stem[:, :, 4]) and stem.std() > 0.01 / 5


# --- norms, frozen stages, blocks ------------------------------------------------------------


@pytest.mark.parametrize("norm", ["BN", "SyncBN", "FrozenBN", "GN"])
@pytest.mark.parametrize("side", [16, 1])
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
