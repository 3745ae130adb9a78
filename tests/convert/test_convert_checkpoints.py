"""Whole checkpoints from elsewhere: they load here, and what is not taken over is told."""

import copy
import datetime
import importlib.util
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone
from elsewhere import DOT, EMBEDDED, block, named, weights
from helpers import detections, made_up_batch, tiny_cfg
from torchvision.models import resnet18, resnet50

from nl_detectron.convert import convert, read_tensors
from nl_detectron.engine import Checkpointer
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model

COUNTERS = "counters of training batches, which do not affect any output"
TOOL = Path(__file__).parents[2] / "tools" / "convert_weights.py"
SLOWFAST = {"pairwise": EMBEDDED, "pool": (1, 2, 2)}
CAFFE2 = {"pairwise": EMBEDDED, "subsample": "before", "scale": "divided"}
MMCV = {"pairwise": EMBEDDED, "scale": "none"}


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("convert_weights", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def of_slowfast(name: str) -> str:
    """SlowFast's name of a tensor of torchvision's ResNet."""
    if not name.startswith("layer"):
        return f"s1.pathway0_stem.{name.replace('1.', '.')}"
    layer, index, rest = name.split(".", 2)
    kind = rest.rsplit(".", 1)[1]
    if rest.startswith("downsample"):
        part = "branch1" if ".0." in rest else "branch1_bn"
    else:
        letter = "abc"[int(rest.split(".")[0][-1]) - 1]
        part = f"branch2.{letter}{'_bn' * rest.startswith('bn')}"
    return f"s{int(layer[-1]) + 1}.pathway0_res{index}.{part}.{kind}"


def of_source(source: str, resnet: dict, blocks: dict[str, dict]) -> dict:
    """A checkpoint with a ResNet and blocks after ``layer3.0`` and so on."""
    found = {}
    for name, tensor in resnet.items():
        if source == "slowfast" and tensor.dim() == 4:
            tensor = tensor.unsqueeze(2)
        if not name.startswith("fc."):
            found[of_slowfast(name) if source == "slowfast" else f"backbone.{name}"] = tensor
    for place, tensors in blocks.items():
        layer, index = int(place[5]), place[7:]
        name = {
            "slowfast": f"s{layer + 1}.pathway0_nonlocal{index}.",
            "mmcv": f"backbone.{place}.non_local_block.",
        }[source]
        found |= {name + key: tensor for key, tensor in tensors.items()}
    return found


# --- a whole model ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def their_resnet():
    resnet = resnet18(weights=None).eval()
    for name, tensor in resnet.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.1)
    return resnet


@pytest.mark.parametrize("source", ["slowfast", "mmcv"])
def test_a_backbone_gives_what_it_gave(source, their_resnet, tool, tmp_path, capsys):
    theirs = copy.deepcopy(their_resnet)
    kind = {"slowfast": ("before", "divided", "BN"), "mmcv": ("after", "none", "BN")}[source]
    p = {name: t.float() / 4 for name, t in weights(EMBEDDED, "BN", 256, 128).items()}
    p["norm.var"] = 4 * p["norm.var"]
    if source == "mmcv":
        del p["out.b"]
    theirs.layer3[0].register_forward_hook(lambda *args: block(args[2], p, EMBEDDED, *kind))
    features = {}
    theirs.layer4.register_forward_hook(lambda *args: features.update(res5=args[2]))
    tensors = named(p, source, kind[0], "BN", 3 if source == "slowfast" else 2)
    key, file = {
        "slowfast": ("model_state", "theirs.pyth"),
        "mmcv": ("state_dict", "theirs.pth"),
    }[source]
    state = of_source(source, theirs.state_dict(), {"layer3.0": tensors})
    torch.save({key: state, "epoch": 7}, tmp_path / file)

    given = ["--pairwise", EMBEDDED]
    given += ["--pool", "1,2,2"] if source == "slowfast" else ["--scale", "none"]
    words = ["--source", source, "--input", str(tmp_path / file), *given]
    tool.main([*words, "--output", str(tmp_path / "ours.pth")])
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


@pytest.mark.parametrize("source", ["slowfast", "mmcv"])
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
    made = {p: named(weights(DOT, "BN"), source, "none", "BN", 3) for p in places}
    if source == "mmcv":
        made = {
            place: {k: t for k, t in tensors.items() if k != "conv_out.conv.bias"}
            for place, tensors in made.items()
        }
    said = {"pairwise": DOT} | ({"pool": (1, 1, 1)} if source == "slowfast" else {})
    found = convert(of_source(source, theirs, made), source, fpn=False, **said)
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


def caffe2_blobs(**more) -> dict[str, np.ndarray]:
    p = weights(EMBEDDED, "BN", 128, 64)
    blobs = {f"nonlocal_conv4_5_{k}": t for k, t in named(p, "caffe2", "", "BN", 3).items()}
    blobs["nonlocal_conv4_5_theta_w_momentum"] = blobs["nonlocal_conv4_5_theta_w"]
    blobs |= {"res4_5_branch2a_w": torch.ones(2, 2, 3, 1, 1), "pred_w": torch.ones(4, 2)}
    return {name: t.numpy() for name, t in blobs.items()} | more


def test_caffe2s_pickle_goes_into_a_baselines_checkpoint(tool, tmp_path, capsys):
    content = {"blobs": caffe2_blobs(lr=np.float32(0.01), model_iter=400000)}
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps(content, protocol=2))
    baseline = build_model(tiny_cfg())
    named_as_in_the_zoo = {
        name.removeprefix("backbone.bottom_up."): tensor.numpy()
        for name, tensor in baseline.state_dict().items()
    }
    base = {"model": named_as_in_the_zoo, "__author__": "test", "matching_heuristics": True}
    (tmp_path / "base.pkl").write_bytes(pickle.dumps(base))
    tool.main(
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
    batch = made_up_batch(((64, 64),))
    assert detections(checkpointer.model, batch).keys() == detections(baseline, batch).keys()


def test_blocks_go_into_weights_in_caffe2s_names(tool, tmp_path):
    msra = {"conv1_w": np.ones((8, 3, 7, 7)), "res4_0_branch2a_bn_s": np.ones(4)}
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(msra))
    found = convert(slow(), "slowfast", **SLOWFAST)
    made = tool.with_base(str(tmp_path / "R-50.pkl"), found)
    assert set(made["model"]) == {"stem.conv1.weight", "res4.0.conv1.norm.weight", *found.model}
    assert made["matching_heuristics"]


# --- places, and what is left ----------------------------------------------------------------


def slow(name="s4.pathway0_nonlocal5", form=EMBEDDED, norm="BN", inner=4) -> dict:
    p = weights(form, norm, 8, inner)
    return {f"{name}.{key}": t for key, t in named(p, "slowfast", "", norm, 3).items()}


def lone(name: str, pooled="none") -> dict:
    tensors = named(weights(EMBEDDED, ""), "mmcv", pooled, "", 2)
    return {f"{name}{key}": tensor for key, tensor in tensors.items()}


def test_a_block_without_a_place_goes_where_it_is_told():
    for name in ("", "model.attention."):
        found = convert(lone(name), "mmcv", places={"": "res3.2"}, **MMCV)
        assert list(found.blocks.values()) == ["backbone.bottom_up.res3.nonlocal2"]


def test_blocks_that_are_not_named_are_left():
    tensors = slow() | slow("s3.pathway0_nonlocal1")
    found = convert(tensors, "slowfast", places={"s4.pathway0_nonlocal5": "res4.4"}, **SLOWFAST)
    assert list(found.blocks) == ["s4.pathway0_nonlocal5"]
    assert found.config["MODEL"]["NONLOCAL"]["BACKBONE"]["AFTER"] == ["res4.4"]
    assert set(found.left) == set(slow("s3.pathway0_nonlocal1"))
    assert set(found.left.values()) == {"not selected by --place"}


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"s5.pathway0_res0.branch2.a.weight": torch.ones(2, 2, 3, 1, 1)}, "kernel over 3 frames"),
        ({"s1_fuse.conv_f2s.weight": torch.ones(2, 2, 5, 1, 1)}, "nothing like s1_fuse.conv_f2s"),
        ({"s4.pathway1_res0.branch2.a.weight": torch.ones(2, 2, 1, 1, 1)}, "s4.pathway1_res0"),
    ],
)
def test_a_resnet_of_videos_is_left_as_a_whole(more, reason):
    of_images = {"s1.pathway0_stem.conv.weight": torch.ones(8, 3, 1, 7, 7)}
    assert convert(slow() | of_images, "slowfast", **SLOWFAST).resnet
    found = convert(slow() | of_images | more, "slowfast", **SLOWFAST)
    assert not found.resnet
    assert set(found.left) == {*of_images, *more}
    assert all(reason in why for why in found.left.values())


@pytest.mark.parametrize(
    ("source", "tensors", "more", "message"),
    [
        ("caffe2", slow(), {}, "no non-local block of caffe2 among 12 tensors"),
        ("mmcv", lone("backbone.layer3.4.nonlocal_block_2."), {}, "inside a residual block"),
        ("mmcv", lone("neck.1.refine."), {}, "BFP"),
        ("mmcv", lone("neck.1.refine."), {"places": {"": "res2.0"}}, "BFP"),
        ("mmcv", lone(""), {}, "'' does not show where .* --place res4.4"),
        ("mmcv", lone("a.") | lone("b."), {}, "'a' does not show where .* --place a=res4.4"),
        ("mmcv", lone("a.") | lone("b."), {"places": {"": "res4.4"}}, "no block ''.* a, b"),
        ("slowfast", slow(), {"places": {"": "res4.-2"}}, "counted from 0.* 'res4.-2'"),
        ("slowfast", slow(), {"places": {"": "res6.0"}}, "expected a residual block.* 'res6.0'"),
        ("slowfast", slow(), {"places": {"s4": "res4.4"}}, "no block 's4'.* s4.pathway0_nonlocal5"),
        (
            "mmcv",
            lone("a.") | lone("b."),
            {"places": {"a": "res4.4", "b": "res4.4"}},
            "more than one block follows res4.4",
        ),
        ("slowfast", slow() | slow("s3.pathway0_nonlocal1", norm=""), {}, "one config .* differ"),
        ("slowfast", slow(inner=5), {}, "5 inner channels of 8"),
        ("slowfast", slow("s4.pathway1_nonlocal5"), {}, "does not show where"),
    ],
)
def test_what_has_no_place_here_is_refused(source, tensors, more, message):
    said = {"mmcv": MMCV, "slowfast": SLOWFAST, "caffe2": CAFFE2}[source]
    with pytest.raises(UsageError, match=message):
        convert(tensors, source, **said, **more)


# --- files -----------------------------------------------------------------------------------


class Runs:
    """A pickle of it runs something."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


@pytest.mark.parametrize("name", ["theirs.pkl", "theirs.pth"])
def test_a_file_runs_nothing(name, tmp_path):
    content = {"blobs": {"a": np.ones(2)}, "more": Runs(tmp_path / "ran")}
    (tmp_path / name).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match="cannot be read"):
        read_tensors(str(tmp_path / name))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["model_state", "state_dict"])
def test_the_advice_on_a_file_with_more_than_tensors_works(key, tmp_path):
    torch.save({key: slow(), "best": np.float64(0.75)}, tmp_path / "theirs.pth")
    with pytest.raises(UsageError, match=r"numpy.*multiarray.scalar") as caught:
        read_tensors(str(tmp_path / "theirs.pth"))
    message = str(caught.value)
    assert message.isprintable()  # without a terminal's colour codes
    assert repr(key) in message
    command = re.search(r"torch\.save\(.*?, OTHER\)", message)[0]
    files = {"FILE": tmp_path / "theirs.pth", "OTHER": tmp_path / "theirs2.pth"}
    exec(command, {"torch": torch, "KEY": key, **files})
    assert read_tensors(str(files["OTHER"])).keys() == slow().keys()


def test_the_advice_on_a_pickle_with_more_than_arrays_works(tmp_path):
    content = {"blobs": caffe2_blobs(), "date": datetime.date(2018, 4, 1)}
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(UsageError, match=r"datetime\.date is no array") as caught:
        read_tensors(str(tmp_path / "theirs.pkl"))
    command = re.search(r"pickle\.dump\(.*, OTHER\)", str(caught.value))[0]
    with open(tmp_path / "theirs2.pkl", "wb") as other, open(tmp_path / "theirs.pkl", "rb") as file:
        exec(command, {"pickle": pickle, "FILE": file, "OTHER": other})
    assert "nonlocal_conv4_5_theta_w" in read_tensors(str(tmp_path / "theirs2.pkl"))


def test_files_without_tensors_and_without_anything_are_told(tmp_path):
    torch.save({"epoch": 3}, tmp_path / "empty.pth")
    with pytest.raises(UsageError, match="holds no tensors by name"):
        read_tensors(str(tmp_path / "empty.pth"))
    with pytest.raises(UsageError, match="there is no file"):
        read_tensors(str(tmp_path / "nowhere.pth"))


def test_nothing_is_overwritten(tool, tmp_path):
    torch.save(slow(), tmp_path / "theirs.pth")
    words = ["--source", "slowfast", "--input", str(tmp_path / "theirs.pth"), "--output"]
    for output in ("theirs.pth", "nowhere/ours.pth", "ours.pkl"):
        with pytest.raises(UsageError, match="expected a new file"):
            tool.main([*words, str(tmp_path / output)])


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["res4.4"], {"": "res4.4"}),
        (["a.b=res4.4", "c=res3.1"], {"a.b": "res4.4", "c": "res3.1"}),
    ],
)
def test_places_are_read(words, expected, tool):
    assert tool.places(words) == expected


def test_a_block_placed_twice_is_told(tool):
    with pytest.raises(UsageError, match="each block once"):
        tool.places(["a=res4.4", "a=res3.1"])


def test_a_pool_is_read_as_their_config_has_it(tool):
    words = ["--source", "slowfast", "--input", "a", "--output", "b.pth", "--pool"]
    assert tool.parsed([*words, "1,2,2"]).pool == (1, 2, 2)
    assert tool.parsed([*words, "[1, 2, 2]"]).pool == (1, 2, 2)


def test_a_pool_that_is_not_here_is_refused(tool, tmp_path):
    torch.save(slow(), tmp_path / "theirs.pth")
    words = ["--source", "slowfast", "--input", str(tmp_path / "theirs.pth")]
    words += ["--output", str(tmp_path / "ours.pth"), "--pairwise", EMBEDDED, "--pool", "1,3,3"]
    with pytest.raises(UsageError, match=r"pool: expected 1,2,2 or 1,1,1 .*, got 1,3,3"):
        tool.main(words)
    assert not (tmp_path / "ours.pth").exists()
