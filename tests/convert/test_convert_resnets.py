"""ResNets of torchvision and timm: they compute here what they computed there."""

import pytest
import torch
import torchvision
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone

from nl_detectron.convert import convert
from nl_detectron.errors import UsageError
from tools.convert_weights import main

THIN = {"width_per_group": 8}  # of a depth whose real width is tested with another one
MODELS = {
    "resnet18": {},
    "resnet50": {},
    "resnet101": THIN,
    "resnet152": THIN,
    "resnext50_32x4d": {},
}


def randomise_norms(model):
    """Norms that are no identities, and features that do not overflow."""
    torch.manual_seed(1)
    for name, tensor in model.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith("running_mean"):
            tensor.normal_(std=0.1)
        elif tensor.dim() == 1 and name.endswith("weight"):
            tensor.uniform_(0.3, 0.9)
        elif tensor.dim() == 1 and name.endswith("bias"):
            tensor.normal_(std=0.1)
    return model.eval()


def their_features(model, x):
    """Outputs of the four stages, by Detectron2's names."""
    x = model.maxpool(model.bn1(model.conv1(x)).relu())
    features = {}
    for stage in range(1, 5):
        features[f"res{stage + 1}"] = x = getattr(model, f"layer{stage}")(x)
    return features


def convert_file(model, source, folder, capsys):
    """Convert a model's file by the tool; returns Detectron2's ResNet with its tensors and the
    config, which are the printed ones."""
    torch.save(model.state_dict(), folder / "theirs.pth")
    words = ["--source", source, "--input", str(folder / "theirs.pth")]
    main([*words, "--output", str(folder / "ours.pth")])
    cfg = get_cfg()
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(capsys.readouterr().out.split("\n\n")[1])))
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    ours = build_resnet_backbone(cfg, ShapeSpec(channels=3)).eval()
    content = torch.load(cfg.MODEL.WEIGHTS)["model"]
    tensors = {name.removeprefix("backbone.bottom_up."): t for name, t in content.items()}
    assert tensors.keys() == ours.state_dict().keys()
    ours.load_state_dict(tensors)
    return ours, cfg


def largest_difference(ours, theirs, side=64) -> float:
    """Largest difference between two models' outputs of a stage, over the stage's largest value."""
    x = torch.randn(1, 3, side, side)
    with torch.no_grad():
        mine, other = ours(x), their_features(theirs, x)
    return max(
        float((mine[name] - value).abs().max() / value.abs().max()) for name, value in other.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_a_resnet_of_torchvision_gives_what_it_gave(name, tmp_path, capsys):
    theirs = randomise_norms(torchvision.models.get_model(name, weights=None, **MODELS[name]))
    ours, cfg = convert_file(theirs, "torchvision", tmp_path, capsys)
    assert largest_difference(ours, theirs) < 1e-5
    assert cfg.INPUT.FORMAT == "RGB" and not cfg.MODEL.RESNETS.STRIDE_IN_1X1
    transform = torchvision.models.ResNet50_Weights.DEFAULT.transforms()
    assert cfg.MODEL.PIXEL_MEAN == pytest.approx([255 * value for value in transform.mean])
    assert cfg.MODEL.PIXEL_STD == pytest.approx([255 * value for value in transform.std])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet50", "resnext50_32x4d"])
def test_a_resnet_of_timm_gives_what_it_gave(name, tmp_path, capsys):
    timm = pytest.importorskip("timm")
    theirs = randomise_norms(timm.create_model(name, pretrained=False))
    ours, _ = convert_file(theirs, "timm", tmp_path, capsys)
    assert largest_difference(ours, theirs) < 1e-5


@pytest.fixture(scope="module")
def resnet18():
    with torch.device("meta"):
        return torchvision.models.resnet18(weights=None).state_dict()


@pytest.mark.parametrize("before", ["module.", "module.encoder_q.", "backbone.body."])
def test_names_may_have_a_prefix(before, resnet18):
    found = convert({before + name: tensor for name, tensor in resnet18.items()}, "torchvision")
    assert len(found.resnet) == 100 and found.config["MODEL"]["RESNETS"]["DEPTH"] == 18
    assert all("num_batches_tracked" in name or ".fc." in f".{name}" for name in found.left)


def without(state, *ends):
    return {name: tensor for name, tensor in state.items() if not name.endswith(ends)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: without(s, "running_mean", "running_var"), "no statistics, so it is no batch"),
        (lambda s: s | {"layer1.0.se.fc1.weight": torch.ones(1)}, "has nothing like layer1.0.se"),
        (lambda s: s | {"conv1.weight": torch.ones(64, 3, 3, 3)}, r"7x7 .* \(64, 3, 3, 3\)"),
        (lambda s: {k: v for k, v in s.items() if "layer4.1" not in k}, "no ResNet of 2, 2, 2, 1"),
        (lambda s: {"patch_embed.proj.weight": torch.ones(1)}, "no ResNet of torchvision among 1"),
    ],
)
def test_what_detectron2_has_not_is_refused(change, message, resnet18):
    with pytest.raises(UsageError, match=message):
        convert(change(dict(resnet18)), "torchvision")


def test_options_of_blocks_are_refused_without_blocks(resnet18):
    with pytest.raises(UsageError, match="torchvision has no non-local blocks, which an option"):
        convert(resnet18, "torchvision", pairwise="dot_product")
