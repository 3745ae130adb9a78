"""Whole models from elsewhere: they compute here what they computed there."""

import copy
import pickle

import numpy as np
import pytest
import torch
import yaml
from block_equations import DOT, EMBEDDED, compute_block, make_weights, rename_tensors
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from fast_part import first_cases
from helpers import detections, make_batch, tiny_cfg
from source_checkpoints import SLOWFAST, caffe2_blobs, make_checkpoint, slowfast_block
from torchvision.models import resnet18, resnet50

from nl_detectron.convert import convert
from nl_detectron.convert.merge import merge_into_checkpoint
from nl_detectron.engine import Checkpointer
from nl_detectron.modeling import build_model
from tools.convert_weights import main

COUNTERS = "counters of training batches, which do not affect any output"


@pytest.fixture(scope="module")
def their_resnet():
    resnet = resnet18(weights=None).eval()
    for name, tensor in resnet.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.1)
    return resnet


@first_cases(1, "source", ["slowfast", "mmcv"])
def test_a_backbone_gives_what_it_gave(source, their_resnet, tmp_path, capsys):
    theirs = copy.deepcopy(their_resnet)
    kind = {"slowfast": ("before", "divided", "BN"), "mmcv": ("after", "none", "BN")}[source]
    p = {name: t.float() / 4 for name, t in make_weights(EMBEDDED, "BN", 256, 128).items()}
    p["norm.var"] = 4 * p["norm.var"]
    if source == "mmcv":
        del p["out.b"]
    theirs.layer3[0].register_forward_hook(lambda *args: compute_block(args[2], p, EMBEDDED, *kind))
    features = {}
    theirs.layer4.register_forward_hook(lambda *args: features.update(res5=args[2]))
    tensors = rename_tensors(p, source, kind[0], "BN", 3 if source == "slowfast" else 2)
    key, file = {
        "slowfast": ("model_state", "theirs.pyth"),
        "mmcv": ("state_dict", "theirs.pth"),
    }[source]
    state = make_checkpoint(source, theirs.state_dict(), {"layer3.0": tensors})
    torch.save({key: state, "epoch": 7}, tmp_path / file)

    given = ["--pairwise", EMBEDDED]
    given += ["--pool", "1,2,2"] if source == "slowfast" else ["--scale", "none"]
    words = ["--source", source, "--input", str(tmp_path / file), *given]
    main([*words, "--output", str(tmp_path / "ours.pth")])
    fragment = capsys.readouterr().out.split("\n\n")[1]
    remarks = " ".join(line[2:] for line in fragment.split("\n") if line.startswith("# "))
    assert " ".join(given) in remarks and "eps" in remarks  # what no checkpoint shows
    printed = yaml.safe_load(fragment)
    cfg = tiny_cfg(depth=18)
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 64
    cfg.merge_from_other_cfg(CfgNode(printed))
    checkpointer = Checkpointer(build_model(cfg))
    checkpointer.load(cfg.MODEL.WEIGHTS)
    assert not checkpointer.unused
    assert checkpointer.fresh  # FPN and heads
    assert not [name for name in checkpointer.fresh if name.startswith("backbone.bottom_up.")]

    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        theirs(x)
        ours = checkpointer.model.eval().backbone.bottom_up(x)["res5"]
    assert torch.allclose(ours, features["res5"], rtol=1e-4, atol=1e-5 * ours.abs().max())


@first_cases(1, "source", ["slowfast", "mmcv"])
def test_all_of_a_resnet50_has_its_place(source):
    with torch.device("meta"):
        theirs = resnet50(weights=None).state_dict()
        cfg = tiny_cfg("C4")
        cfg.MODEL.DEVICE = "meta"
        cfg.MODEL.RESNETS.merge_from_list(
            ["WIDTH_PER_GROUP", 64, "STEM_OUT_CHANNELS", 64, "RES2_OUT_CHANNELS", 256]
        )
        cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
        ours = build_resnet_backbone(cfg, ShapeSpec(channels=3)).state_dict()
    places = ["layer2.1", "layer2.3", "layer3.1", "layer3.3", "layer3.5"]  # the paper's five
    made = {p: rename_tensors(make_weights(DOT, "BN"), source, "none", "BN", 3) for p in places}
    if source == "mmcv":
        made = {
            place: {k: t for k, t in tensors.items() if k != "conv_out.conv.bias"}
            for place, tensors in made.items()
        }
    said = {"pairwise": DOT} | ({"pool": (1, 1, 1)} if source == "slowfast" else {})
    found = convert(make_checkpoint(source, theirs, made), source, fpn=False, **said)
    shapes = {name: t.shape for name, t in found.model.items() if ".nonlocal" not in name}
    assert shapes == {f"backbone.{name}": t.shape for name, t in ours.items()}
    assert len(found.resnet) == len(shapes)
    ours = [f"res3.nonlocal{i}" for i in (1, 3)] + [f"res4.nonlocal{i}" for i in (1, 3, 5)]
    assert list(found.blocks.values()) == [f"backbone.{name}" for name in ours]
    assert found.config["MODEL"]["NONLOCAL"]["BACKBONE"]["AFTER"] == [
        *("res3.1", "res3.3", "res4.1", "res4.3", "res4.5")
    ]
    assert found.config["MODEL"]["BACKBONE"]["NAME"] == "build_nonlocal_resnet_backbone"
    assert all(name.endswith("num_batches_tracked") for name in found.left)
    assert set(found.left.values()) == {COUNTERS}


@pytest.mark.slow
def test_caffe2s_pickle_goes_into_a_baselines_checkpoint(tmp_path, capsys):
    content = {"blobs": caffe2_blobs(lr=np.float32(0.01), model_iter=400000)}
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps(content, protocol=2))
    baseline = build_model(tiny_cfg())
    named_as_in_the_zoo = {
        name.removeprefix("backbone.bottom_up."): tensor.numpy()
        for name, tensor in baseline.state_dict().items()
    }
    base = {"model": named_as_in_the_zoo, "__author__": "test", "matching_heuristics": True}
    (tmp_path / "base.pkl").write_bytes(pickle.dumps(base))
    main(
        [
            *("--source", "caffe2", "--input", str(tmp_path / "theirs.pkl")),
            *("--output", str(tmp_path / "ours.pth"), "--base", str(tmp_path / "base.pkl")),
            *("--pairwise", EMBEDDED, "--subsample", "before", "--scale", "divided"),
        ]
    )
    table, fragment = capsys.readouterr().out.split("\n\n")
    assert "backbone.bottom_up.res4.nonlocal5, 128 -> 64 channels" in table
    assert "left: its first max pool is not padded" in table and "names of no known block" in table
    cfg = tiny_cfg()
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(fragment)))
    checkpointer = Checkpointer(build_model(cfg))
    checkpointer.load(cfg.MODEL.WEIGHTS)
    assert not checkpointer.fresh and not checkpointer.unused
    batch = make_batch(((64, 64),))
    assert detections(checkpointer.model, batch).keys() == detections(baseline, batch).keys()


def test_blocks_go_into_weights_in_caffe2s_names(tmp_path):
    msra = {"conv1_w": np.ones((8, 3, 7, 7)), "res4_0_branch2a_bn_s": np.ones(4)}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(msra))
    found = convert(slowfast_block(), "slowfast", **SLOWFAST)
    made = merge_into_checkpoint(str(tmp_path / "R-50.pkl"), found.model)
    assert set(made["model"]) == {"stem.conv1.weight", "res4.0.conv1.norm.weight", *found.model}
    assert made["matching_heuristics"]
