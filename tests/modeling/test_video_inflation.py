"""Weights of images in C2D and I3D ResNets: on a repeated image, the output is Detectron2's."""

import pickle

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model as build_detectron2_model
from fast_part import first_cases
from torch import nn
from video_models import build_video_model, randomise_batch_norms, tiny_video_cfg

from nl_detectron.engine import Checkpointer
from nl_detectron.modeling import build_model


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


@pytest.mark.slow
@first_cases(1, "dtype", [torch.float64, torch.float32])
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


@pytest.mark.slow
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
