"""PyTorchVideo's own modules, converted, give here what they gave there."""

import importlib

import pytest
import torch
from converted_videos import clips_of, our_model
from video_networks import FIVE

from nl_detectron.convert import convert_video

PLACES = [f"res{stage}.{number}" for stage, number in FIVE]


def check_logits(theirs, found, frames):
    """Our model with converted tensors gives their logits, which differ between clips."""
    clips = clips_of(frames, side=64)
    with torch.no_grad():
        expected = theirs((clips.float() / 255 - 0.45) / 0.225)  # before the softmax
        logits = our_model(found).pooled_logits(clips)
    size = expected.abs().max().item()
    assert (expected[0] - expected[1]).abs().max() > 0.01 * size
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4 * size)


@pytest.mark.slow
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
    check_logits(theirs, found, clip[0])


def test_pytorchvideos_names_are_converted():
    pytest.importorskip("pytorchvideo")
    theirs, tensors = pytorchvideo_network(1, width=8, places=())
    found = convert_video(tensors, "pytorchvideo", (8, 8))
    check_logits(theirs, found, 8)


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
