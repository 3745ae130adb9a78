"""Whole video models from elsewhere: their networks, restated, give here what they gave there."""

import pickle

import pytest
import torch
import yaml
from converted_videos import WINDOW, check_equal, clips_of, config_of, our_model
from fast_part import combinations, first_cases
from video_networks import Network

from nl_detectron.convert import convert_video
from nl_detectron.engine import Checkpointer
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model
from tools.convert_weights import main

CASES = {
    "caffe2 C2D NL 8x8": (Network("caffe2", i3d=False), (8, 8), {}),
    "caffe2 C2D 32x2": (Network("caffe2", i3d=False, stride=2, places=()), (32, 2), {}),
    "caffe2 I3D NL 8x8": (Network("caffe2"), (8, 8), {}),
    "caffe2 I3D NL 32x2": (Network("caffe2", stride=2), (32, 2), {}),
    "caffe2 I3D 32x4": (Network("caffe2", affine=True, places=()), (32, 4), {}),
    "caffe2 I3D NL 32x4": (Network("caffe2", affine=True), (32, 4), {}),
    "caffe2 I3D NL 128x1": (Network("caffe2", affine=True, stride=2), (128, 1), {}),
    "slowfast C2D without pool2": (
        Network("slowfast", "caffe2", i3d=False, pool2=False, places=()),
        (8, 8),
        {"strides": "none"},
    ),
    "slowfast I3D NL, from Caffe2": (Network("slowfast", "caffe2"), (8, 8), {}),
    "slowfast I3D NL": (Network("slowfast"), (8, 8), {}),
    "slowfast I3D NL, dot product": (
        Network("slowfast", form="dot_product"),
        (8, 8),
        {"pairwise": "dot_product"},
    ),
    "mmaction2 I3D": (Network("mmaction2", stride=2, places=()), (32, 2), {}),
    **{
        f"mmaction2 I3D NL {form}": (
            Network("mmaction2", stride=2, form=form),
            (32, 2),
            {"pairwise": form} if form != "gaussian" else {},
        )
        for form in ("embedded_gaussian", "dot_product", "gaussian")
    },
}


@first_cases(1, "case", CASES)
def test_a_whole_network_gives_what_it_gave(case):
    network, clip, given = CASES[case]
    torch.manual_seed(0)
    tensors = network.make()
    found = convert_video(tensors, network.project, clip, **given)
    assert not found.left and (list(found.blocks) != []) == (network.places != ())
    clips, model, maps = clips_of(clip[0]), our_model(found), {}
    model.backbone.register_forward_hook(lambda module, args, outputs: maps.update(outputs))
    with torch.no_grad():
        theirs = network.features(tensors, clips)
        check_equal(model.scores(clips), network.classify(tensors, theirs, WINDOW))
    torch.testing.assert_close(maps["res5"], theirs, rtol=1e-4, atol=1e-4 * theirs.max().item())


# --- the mistakes that conversions by hand made ----------------------------------------------


def statistics_of_no_training(model):
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.zero_()
            module.running_var.fill_(1)


def pixels_from_0_to_1(model):
    model.pixel_mean /= 255
    model.pixel_std /= 255


@combinations(mistake=["statistics", "pool1", "pixels"], project=["caffe2", "slowfast"])
def test_a_mistake_made_by_hand_gives_something_else(project, mistake):
    network = Network(project)
    torch.manual_seed(0)
    tensors = network.make()
    found = convert_video(tensors, project, (8, 8))
    assert found.config["MODEL"]["VIDEO"]["POOL1"] == {"caffe2": "released"}.get(project, project)
    assert found.config["MODEL"]["PIXEL_MEAN"] == [114.75] * 3
    assert found.config["MODEL"]["PIXEL_STD"] == [57.375] * 3
    if mistake == "pool1":
        found.config["MODEL"]["VIDEO"]["POOL1"] = {"caffe2": "slowfast"}.get(project, "released")
    model = our_model(found)
    if mistake == "statistics":
        statistics_of_no_training(model)
    if mistake == "pixels":
        pixels_from_0_to_1(model)
    clips = clips_of(8)
    with torch.no_grad():
        difference = (model.scores(clips) - network.scores(tensors, clips, WINDOW)).abs().max()
    assert difference > 0.01  # a hundred times what the right model may differ


@first_cases(1, "project", ["caffe2", "slowfast", "mmaction2"])
def test_the_statistics_of_every_norm_are_taken(project):
    network = Network(project, stride=2 if project == "mmaction2" else 1)
    clip = (32, 2) if project == "mmaction2" else (8, 8)
    torch.manual_seed(0)
    tensors = network.make()
    given = {"pairwise": "embedded_gaussian"} if project == "mmaction2" else {}
    found = convert_video(tensors, project, clip, **given)
    ends = (network.norm_kind("running_mean"), network.norm_kind("running_var"))
    theirs = sorted(t.sum().item() for name, t in tensors.items() if name.endswith(ends))
    ours = sorted(
        t.sum().item() for n, t in found.model.items() if n.rpartition("_")[0][-7:] == "running"
    )
    assert len(theirs) == 2 * (53 + 5) == len(ours)
    biases = 0 if project == "mmaction2" else 5  # those of W_z are in the means
    assert len({*theirs} & {*ours}) == len(theirs) - biases


@pytest.mark.parametrize("every", [True, False])
def test_norms_without_statistics_are_refused(every):
    tensors = Network("slowfast", places=()).make()
    lost = [name for name in tensors if name.endswith("running_mean")]
    for name in lost if every else lost[3:4]:
        del tensors[name]
    with pytest.raises(
        UsageError, match=r"has no running mean and variance, as (53|1) of 53 norms"
    ):
        convert_video(tensors, "slowfast", (8, 8))


# --- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda t: t.pop("res4_2_branch2b_w"),
            r"lacks tensors of the model \(1\): backbone.res4.2.conv2.weight",
        ),
        (lambda t: t.pop("pred_b"), "it lacks linear.bias, which is in every model"),
        (lambda t: t.pop("conv1_w"), "there is no whole video model of caffe2 among"),
        (lambda t: t.update(t_conv1_w=torch.ones(2)), "'t_conv1_w' is no tensor of a C2D or I3D"),
        (
            lambda t: t.update(nonlocal_conv3_0_g_w=torch.ones(2)),
            "'nonlocal_conv3_0_g_w' is no tensor",
        ),
        (lambda t: t.update(res4_6_branch2a_w=torch.ones(2)), "3, 4, 7, 3 residual blocks"),
        (
            lambda t: t.update(res5_0_branch2a_w=torch.ones(64, 128, 3, 1, 1)),
            r"res5.0.conv1.weight has the shape \(64, 128, 3, 1, 1\), but \(64, 128, 1, 1, 1\) in",
        ),
    ],
)
def test_what_is_not_such_a_network_is_refused_whole(change, said):
    tensors = Network("caffe2", places=()).make()
    change(tensors)
    with pytest.raises(UsageError, match=said):
        convert_video(tensors, "caffe2", (8, 8))


@pytest.mark.parametrize(
    ("project", "arguments", "said"),
    [
        (
            "torchvision",
            {},
            "no whole video models of torchvision are known, but those of caffe2, ",
        ),
        (
            "slowfast",
            {},
            "have s1.pathway0_stem.conv.weight or conv1_w; these names are those of mmaction2",
        ),
        ("mmaction2", {}, "--pairwise embedded_gaussian"),
        ("mmaction2", {"pairwise": "dot_product", "scale": "divided"}, "scale: got divided"),
        ("caffe2", {"clip": (16, 4)}, "caffe2 has models for clips of 32x2, 128x1, 8x8, 32x4"),
    ],
)
def test_what_is_not_known_of_a_network_is_asked_for(project, arguments, said):
    network = Network("caffe2" if project == "caffe2" else "mmaction2", stride=2)
    clip = arguments.pop("clip", (32, 2))
    with pytest.raises(UsageError, match=said):
        convert_video(network.make(), project, clip, **arguments)


# --- files -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_tool_writes_a_model_and_its_config(tmp_path, capsys):
    network = Network("caffe2", stride=2)
    torch.manual_seed(0)
    tensors = network.make()
    blobs = {name: tensor.numpy() for name, tensor in tensors.items()}
    blobs |= {"conv1_w_momentum": blobs["conv1_w"], "lr": blobs["pred_b"][:1], "model_iter": 400000}
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps({"blobs": blobs}, protocol=2))
    words = ["--source", "caffe2", "--video", "32x2", "--input", str(tmp_path / "theirs.pkl")]
    main([*words, "--output", str(tmp_path / "ours.pth")])
    said = capsys.readouterr().out
    assert "the ResNet and the classifier" in said and "names of nothing in the network" in said
    written = (tmp_path / "ours.yaml").read_text()
    assert written in said and "--video 32x2" in written
    cfg = config_of(yaml.safe_load(written))
    checkpointer = Checkpointer(build_model(cfg))
    checkpointer.load(cfg.MODEL.WEIGHTS)
    assert not checkpointer.fresh and not checkpointer.unused
    clips = clips_of(32)
    with torch.no_grad():
        check_equal(checkpointer.model.eval().scores(clips), network.scores(tensors, clips, WINDOW))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--video", "8x8", "--no-fpn"], "leave out --base and --no-fpn"),
        (["--strides", "none"], "give --video too"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words, said, tmp_path):
    with pytest.raises(UsageError, match=said):
        main(["--source", "slowfast", "--input", "a", "--output", str(tmp_path / "b.pth"), *words])
