"""A baseline's checkpoint gives a non-local model all but its blocks, which do nothing yet."""

import pickle
import re

import pytest
import torch
from helpers import (
    assert_equal,
    build,
    detections,
    losses,
    make_batch,
    nonlocal_tensors,
    randomise,
    tiny_cfg,
    with_blocks,
)

from nl_detectron.engine import Checkpointer
from nl_detectron.modeling import build_model, find_blocks

# name: baseline's config, places in the backbone, convs of the head. No block stands in a frozen
# stage here: Detectron2's FrozenBN rounds otherwise where gradients pass.
MODELS = {
    "R50-FPN-mask": (("FPN", "mask", 50), ["res3.1", "res4.-2"], []),
    "R101-FPN-keypoint": (("FPN", "keypoint", 101), ["res4.-2"], [2, 4, 6, 8]),
    "R18-FPN-mask": (("FPN", "mask", 18), ["res3.*", "res4.-2"], []),
    "R50-C4-mask": (("C4", "mask", 50), ["res4.-2"], []),
    "R50-DC5-keypoint": (("DC5", "keypoint", 50), ["res5.-2"], [4, 8]),
}


def caffe2_name(name):
    """Detectron2's name of a ResNet's tensor in Caffe2's words."""
    name = re.sub(r"^stem\.conv1\.norm\.", "res.conv1.bn.", name)
    name = name.replace("stem.", "").replace("shortcut", "branch1")
    name = re.sub(r"(res\d\.\d+)\.conv(\d)", lambda m: f"{m[1]}.branch2{'_abc'[int(m[2])]}", name)
    name = re.sub(r"(branch\w+)\.norm", r"\1.bn", name)
    for ours, theirs in (("bn.weight", "bn.s"), (".weight", ".w"), (".bias", ".b")):
        name = name.replace(ours, theirs)
    return name.replace(".", "_")


def save_imagenet(model, path):
    """Weights of a ResNet as Caffe2 published them: norms are folded to a scale and a shift."""
    names = [n for n in model.state_dict() if re.search(r"(^|\.)(stem|res\d)\.", n)]
    short = {n: re.search(r"(stem|res\d)\..*", n)[0] for n in names if "running" not in n}
    blobs = {caffe2_name(short[n]): model.state_dict()[n].numpy() for n in short}
    blobs |= {"fc1000_w": torch.zeros(10, 8).numpy(), "fc1000_b": torch.zeros(10).numpy()}
    path.write_bytes(pickle.dumps(blobs))
    return set(short)


def save_zoo(model, path):
    tensors = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    path.write_bytes(pickle.dumps({"model": tensors, "__author__": "Detectron2 Model Zoo"}))
    return set(tensors)


def save_pth(model, path):
    torch.save({"model": model.state_dict(), "iteration": 89999}, path)
    return set(model.state_dict())


FILES = {
    "imagenet": ("R.pkl", save_imagenet),
    "zoo": ("model_final.pkl", save_zoo),
    "pth": ("model_final.pth", save_pth),
}


def load(model, path):
    checkpointer = Checkpointer(model)
    checkpointer.load(str(path))
    return checkpointer


def test_caffe2_names_are_the_published_ones():
    ours = ["stem.conv1.weight", "stem.conv1.norm.weight", "stem.conv1.norm.bias"]
    ours += ["res4.5.conv1.weight", "res4.5.conv3.norm.weight", "res2.0.shortcut.norm.bias"]
    assert list(map(caffe2_name, ours)) == [
        *("conv1_w", "res_conv1_bn_s", "res_conv1_bn_b"),
        *("res4_5_branch2a_w", "res4_5_branch2c_bn_s", "res2_0_branch1_bn_b"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("name", MODELS)
def test_baselines_checkpoint_leaves_only_the_blocks_fresh(name, file, tmp_path):
    arguments, after, convs = MODELS[name]
    cfg = tiny_cfg(*arguments)
    filename, save = FILES[file]
    trained = build(cfg, seed=1)
    given = save(trained, tmp_path / filename)

    # What ImageNet's file lacks, both start alike: blocks draw random numbers of their own.
    baseline = build(cfg, seed=2)
    model = build(with_blocks(cfg, after, convs), seed=2 if file == "imagenet" else 3)
    of_baseline = load(baseline, tmp_path / filename)
    checkpointer = load(model, tmp_path / filename)
    blocks = nonlocal_tensors(model)
    assert len(find_blocks(model)) >= 1 + len(convs)
    assert set(checkpointer.fresh) - blocks == set(of_baseline.fresh)
    assert blocks <= set(checkpointer.fresh)
    assert list(checkpointer.unused) == list(of_baseline.unused)
    if file == "imagenet":
        assert not any(re.search(r"\.(stem|res\d\.\d)", n) for n in of_baseline.fresh)
        assert set(of_baseline.unused) == {"fc1000.weight", "fc1000.bias"}
    else:
        assert list(of_baseline.fresh) == []

    loaded = model.state_dict()
    for tensor in given:
        full = next(n for n in loaded if n.endswith(tensor))
        assert torch.equal(loaded[full], trained.state_dict()[full]), tensor

    batch = make_batch()
    assert_equal(losses(model, batch), losses(baseline, batch))
    ours, theirs = detections(model, batch), detections(baseline, batch)
    assert_equal(ours, theirs)
    fields = {"pred_boxes", "scores", "pred_classes"}
    fields |= {"pred_masks"} if cfg.MODEL.MASK_ON else {"pred_keypoints", "pred_keypoint_heatmaps"}
    assert {f.split(".")[1] for f in ours} == fields
    assert all(len(value) for value in ours.values())  # else nothing was compared

    for block in find_blocks(model).values():
        randomise(block)
    assert not torch.equal(detections(model, batch)["0.scores"], theirs["0.scores"])


@pytest.mark.parametrize("norm", ["BN", "GN", "LN"])
def test_blocks_with_a_norm_change_no_output_either(norm):
    cfg = tiny_cfg()
    baseline = build(cfg, seed=1)
    model = build(with_blocks(cfg, ["res3.*", "res4.-2"], NORM=norm), seed=1)
    batch = make_batch()
    assert_equal(losses(model, batch), losses(baseline, batch))
    found = detections(model, batch)
    assert_equal(found, detections(baseline, batch))
    assert len(found["1.scores"])


def test_nonlocal_checkpoint_comes_back_whole(tmp_path):
    cfg = with_blocks(tiny_cfg(task="keypoint"), head=[2, 4], NORM="BN", PAIRWISE="concatenation")
    model = build(cfg, seed=1)
    for block in find_blocks(model).values():
        randomise(block)
    Checkpointer(model, str(tmp_path)).save("model_final")
    again = build(cfg, seed=2)
    checkpointer = load(again, tmp_path / "model_final.pth")
    assert list(checkpointer.fresh) == list(checkpointer.unused) == []
    assert_equal(again.state_dict(), model.state_dict())


@pytest.mark.parametrize("head", [(), (2, 4, 6, 8)])
def test_twin_of_one_seed_has_equal_shared_weights(head):
    cfg = tiny_cfg(task="keypoint")
    baseline = build(cfg, seed=1)
    drawn = torch.rand(3)
    model = build(with_blocks(cfg, head=head), seed=1)
    assert torch.equal(torch.rand(3), drawn)  # and what is drawn next: data, proposals
    blocks = nonlocal_tensors(model)
    assert_equal(
        {k: v for k, v in model.state_dict().items() if k not in blocks}, baseline.state_dict()
    )


def test_blocks_follow_the_seed():
    cfg = with_blocks(tiny_cfg(), ["res4.*"])
    one, same, other = (build(cfg, seed).backbone.bottom_up.res4 for seed in (1, 1, 2))
    assert torch.equal(one.nonlocal4.theta.weight, same.nonlocal4.theta.weight)
    assert not torch.equal(one.nonlocal4.theta.weight, other.nonlocal4.theta.weight)
    assert not torch.equal(one.nonlocal4.theta.weight, one.nonlocal3.theta.weight)


def test_building_blocks_seeds_no_gpu(monkeypatch):
    # Proposals on a GPU are sampled with its generator, which the twin must find as it was.
    seeded = []
    torch.manual_seed(1)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    build_model(with_blocks(tiny_cfg()))
    assert seeded == []


def test_any_seed_will_do():
    torch.manual_seed(-1)  # initial_seed() is then the largest there is
    assert find_blocks(build_model(with_blocks(tiny_cfg())))
