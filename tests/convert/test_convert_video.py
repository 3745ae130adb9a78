"""Whole video models from elsewhere: their networks, restated, give here what they gave there."""

import importlib
import pickle

import pytest
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from video_networks import FIVE, Network

from nl_detectron import add_nonlocal_config
from nl_detectron.convert import convert_video
from nl_detectron.engine import Checkpointer
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model
from tools.convert_weights import main

SIDE, WINDOW = 96, 2  # clips give maps of 3x3; training's crops of 64 pixels give maps of 2x2
PLACES = [f"res{stage}.{number}" for stage, number in FIVE]


def config_of(found_config) -> CfgNode:
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.MODEL.DEVICE = "cpu"
    cfg.merge_from_other_cfg(CfgNode(found_config))
    cfg.INPUT.VIDEO.CROP_SIZE = 32 * WINDOW
    return cfg


def our_model(found):
    """Our model with converted tensors, in evaluation."""
    model = build_model(config_of(found.config))
    model.load_state_dict(found.model)
    return model.eval()


def clips_of(frames, side=SIDE):
    """Two clips of coarse noise, so that their averages differ."""
    cells = torch.randint(0, 256, (2, 3, frames, 8, 8), dtype=torch.uint8)
    return cells.repeat_interleave(side // 8, dim=3).repeat_interleave(side // 8, dim=4)


def check_equal(ours, theirs):
    """Probabilities to 1e-4, of which none is near 1 so that they tell something."""
    assert theirs.max() < 0.95 and (theirs[0] - theirs[1]).abs().max() > 1e-3
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


CASES = {
    "caffe2 C2D 32x2": (Network("caffe2", i3d=False, stride=2, places=()), (32, 2), {}),
    "caffe2 C2D NL 8x8": (Network("caffe2", i3d=False), (8, 8), {}),
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


@pytest.mark.parametrize("case", CASES)
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


@pytest.mark.parametrize("clip", [(8, 8), (32, 2)])
def test_pytorchvideos_own_modules_give_what_they_gave(clip):
    """Its I3D, thin, with its own non-local blocks, in SlowFast's names."""
    pytest.importorskip("pytorchvideo")
    stride = 1 if clip == (8, 8) else 2
    theirs, tensors = pytorchvideo_network(stride, width=32 if stride == 1 else 8)
    found = convert_video(
        {slowfast_name(name): tensor for name, tensor in tensors.items()},
        "slowfast",
        clip,
        strides="8x8" if stride == 1 else "paper",
    )
    assert found.config["MODEL"]["NONLOCAL"]["BACKBONE"]["AFTER"] == PLACES
    clips = clips_of(clip[0], side=64)
    with torch.no_grad():
        expected = theirs((clips.float() / 255 - 0.45) / 0.225)  # before the softmax
        logits = our_model(found).pooled_logits(clips)
    size = expected.abs().max().item()
    assert (expected[0] - expected[1]).abs().max() > 0.01 * size
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * size)


def test_pytorchvideos_names_are_converted():
    pytest.importorskip("pytorchvideo")
    theirs, tensors = pytorchvideo_network(1, width=8, places=())
    found = convert_video(tensors, "pytorchvideo", (8, 8))
    clips = clips_of(8, side=64)
    with torch.no_grad():
        expected = theirs((clips.float() / 255 - 0.45) / 0.225)  # before the softmax
        logits = our_model(found).pooled_logits(clips)
    size = expected.abs().max().item()
    assert (expected[0] - expected[1]).abs().max() > 0.01 * size
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * size)


def pytorchvideo_network(stride, width, places=FIVE):
    """PyTorchVideo's I3D with random tensors, in evaluation, and these by name."""
    make = importlib.import_module("pytorchvideo.models.resnet").create_resnet
    torch.manual_seed(0)
    network = make(
        model_num_class=12,
        stem_dim_out=width,
        stem_conv_kernel_size=(5, 7, 7),
        stem_conv_stride=(stride, 2, 2),
        stem_pool_stride=(stride, 2, 2),
        stage1_pool=torch.nn.MaxPool3d,
        stage_conv_a_kernel_size=(
            (3, 1, 1),
            [(3, 1, 1), (1, 1, 1)],
            [(3, 1, 1), (1, 1, 1)],
            [(1, 1, 1), (3, 1, 1)],
        ),
        head_pool_kernel_size=(4, 2, 2),
    )
    make_block = importlib.import_module("pytorchvideo.layers.nonlocal_net").create_nonlocal
    for stage, number in places:
        block = network.blocks[stage].res_blocks[number]
        channels = width * 2**stage
        block.nonlocal_block = make_block(
            dim_in=channels, dim_inner=channels // 2, pool_size=(1, 2, 2), instantiation="softmax"
        )
        block.register_forward_hook(lambda module, args, x: module.nonlocal_block(x))
    for name, tensor in network.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif name.endswith(("running_mean", "bias")):
            tensor.normal_(std=0.2)
        elif tensor.dim() == 1 and name.endswith("weight"):  # the last norm of a branch is smaller
            last = name.endswith("branch2.norm_c.weight")
            tensor.uniform_(*((0.1, 0.4) if last else (0.6, 1.4)))
        elif tensor.dim() == 5 and "nonlocal" not in name:
            tensor *= 6**0.5  # as He et al.'s, so that the clip is not lost among the biases
    network.blocks[-1].proj.weight.data.normal_(std=(32 * width) ** -0.5)
    return network.eval(), network.state_dict()


def slowfast_name(name):
    """SlowFast's name of a tensor of PyTorchVideo."""
    if name.startswith("blocks.0."):
        return name.replace("blocks.0.norm", "s1.pathway0_stem.bn").replace(
            "blocks.0.", "s1.pathway0_stem."
        )
    if name.startswith("blocks.6.proj"):
        return name.replace("blocks.6.proj", "head.projection")
    _, stage, _, number, rest = name.split(".", 4)
    stage = 2 if stage == "1" else stage
    if rest.startswith("nonlocal_block."):
        return f"s{stage}.pathway0_nonlocal{number}.{rest.split('.', 1)[1].replace('norm.', 'bn.')}"
    for theirs, slow in (
        ("branch1_conv", "branch1"),
        ("branch1_norm", "branch1_bn"),
        *((f"branch2.conv_{letter}", f"branch2.{letter}") for letter in "abc"),
        *((f"branch2.norm_{letter}", f"branch2.{letter}_bn") for letter in "abc"),
    ):
        rest = rest.replace(f"{theirs}.", f"{slow}.")
    return f"s{stage}.pathway0_res{number}.{rest}"


# --- the mistakes that conversions by hand made ----------------------------------------------


def statistics_of_no_training(model):
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.running_mean.zero_()
            module.running_var.fill_(1)


def pixels_from_0_to_1(model):
    model.pixel_mean /= 255
    model.pixel_std /= 255


@pytest.mark.parametrize("project", ["caffe2", "slowfast"])
@pytest.mark.parametrize("mistake", ["statistics", "pool1", "pixels"])
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


@pytest.mark.parametrize("project", ["caffe2", "slowfast", "mmaction2"])
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
