"""FLOPs and parameters of video models, held against published figures."""

from functools import partial
from unittest import mock

import pytest
import torch
from helpers import CONFIGS
from test_analyze_model import tool  # noqa: F401  a fixture
from torch import nn

from nl_detectron.analysis import analyze
from nl_detectron.engine import build_on_meta, load_config
from nl_detectron.modeling import find_blocks

# Table 2e counts the ResNet-101 with the stride in the 1x1 convs and the released pool1.
FEW = ("MODEL.NONLOCAL.BACKBONE.AFTER", "['res3.1','res4.1']")  # of a ResNet-26
PAPER = ["MODEL.RESNETS.STRIDE_IN_1X1", "True", "MODEL.VIDEO.POOL1", "released"]


def count_by_hand(name, *opts, size=224):
    """Parameters, those of norms, multiply-adds, and values that norms see, in millions, of one
    clip: convs, the classifier, and each block's convs and its two products of all pairs."""
    cfg = load_config(str(CONFIGS / f"Kinetics/{name}.yaml"), opts)
    drawn = ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_")
    with mock.patch.multiple("torch.nn.init", **dict.fromkeys(drawn, mock.DEFAULT)):  # slow on meta
        model = build_on_meta(cfg).eval()
    found = {"macs": 0, "normed": 0}

    def conv(module, _, z):
        found["macs"] += z.numel() * module.weight[0].numel()

    def linear(module, _, z):
        found["macs"] += z.numel() * module.in_features

    def norm(_, args, z):
        found["normed"] += z.numel()

    def through_block(block, x):
        n = x.shape[2:].numel()
        m = n // 4 if block.subsample != "none" else n
        c, d = block.in_channels, block.inner_channels
        embedded = [n, n if block.subsample == "after" else m] * (
            len(block.pairwise.embeddings) // 2
        )
        convs = sum(embedded) * c * d + (n if block.subsample == "after" else m) * c * d + n * d * c
        found["macs"] += convs + n * m * (block.pairwise.channels + d)
        return x

    for block in find_blocks(model).values():
        block.forward = partial(through_block, block)
    for module in model.modules():
        hooks = {nn.Conv3d: conv, nn.Linear: linear, nn.BatchNorm2d: norm}
        for kind, hook in hooks.items():
            if isinstance(module, kind):
                module.register_forward_hook(hook)
    model.scores(torch.empty(1, 3, cfg.INPUT.VIDEO.FRAMES, size, size, device="meta"))
    norms = (m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    found["of_norms"] = sum(p.numel() for m in norms for p in m.parameters())
    found["parameters"] = sum(p.numel() for p in model.parameters())
    return {key: value / 1e6 for key, value in found.items()}


@pytest.mark.slow
def test_the_analysis_counts_what_is_counted_by_hand():
    name, opts = "i3d_R_50_nl5_32x2", ("MODEL.RESNETS.DEPTH", "26", *FEW)
    figures = analyze(load_config(str(CONFIGS / f"Kinetics/{name}.yaml"), opts)).figures
    by_hand = count_by_hand(name, *opts)
    assert figures.flops / 1e6 == pytest.approx(by_hand["macs"], rel=1e-6)
    assert figures.parameters / 1e6 == by_hand["parameters"]


@pytest.mark.slow
def test_c2d_and_its_relatives_cost_what_table_2e_says():
    c2d = count_by_hand("c2d_R_101_32x2", *PAPER)
    # the paper counts no parameters of norms
    assert c2d["parameters"] - c2d["of_norms"] == pytest.approx(43.2, abs=0.05)
    assert c2d["macs"] / 1e3 == pytest.approx(34.2, abs=0.05)
    released = count_by_hand("c2d_R_101_32x2", *PAPER[2:])
    for name, opts, twin, parameters, flops in (
        ("c2d_R_101_nl5_32x2", PAPER, c2d, 1.2, 1.2),
        ("i3d_3x3x3_R_101_32x2", PAPER, c2d, 1.5, 1.8),
        # 1.46; with the stride in its 1x1 convs, which are 3x1x1 here, 1.44
        ("i3d_R_101_32x2", PAPER[2:], released, 1.2, 1.5),
    ):
        found = count_by_hand(name, *opts)
        assert round(found["parameters"] / twin["parameters"], 1) == parameters, name
        assert round(found["macs"] / twin["macs"], 1) == flops, name
    # R50 with five blocks: "about 70% parameters and 80% FLOPs" of R101 (Sec. 5.1)
    five = count_by_hand("c2d_R_50_nl5_32x2", *PAPER[2:])
    assert five["parameters"] / released["parameters"] == pytest.approx(0.7, abs=0.05)
    assert five["macs"] / released["macs"] == pytest.approx(0.8, abs=0.05)


# mmaction2's I3D, on crops of 256; its blocks pool phi and g. Its counter adds two operations for
# each value that a norm sees. It has the same figure for dot_product, by the matrix of all pairs.
@pytest.mark.parametrize(
    ("name", "form", "parameters", "flops"),
    [
        ("i3d_R_50_32x2", "embedded_gaussian", 28.0, 43.5),
        ("i3d_R_50_nl5_32x2", "embedded_gaussian", 35.4, 59.3),
        ("i3d_R_50_nl5_32x2", "gaussian", 31.7, 56.5),
    ],
)
def test_i3d_costs_what_mmaction2_publishes(name, form, parameters, flops):
    opts = ["MODEL.NONLOCAL.SUBSAMPLE", "after", "MODEL.NONLOCAL.PAIRWISE", form]
    found = count_by_hand(name, *opts, size=256)
    assert found["parameters"] == pytest.approx(parameters, abs=0.05)
    assert (found["macs"] + 2 * found["normed"]) / 1e3 == pytest.approx(flops, abs=0.06)


@pytest.mark.slow
@pytest.mark.parametrize("axes", ["spacetime", "space", "time"])
def test_a_blocks_flops_are_those_of_its_parts(axes):
    """By hand: four convs, phi and g on pooled positions, and two products of the pairs."""
    opts = ["MODEL.NONLOCAL.AXES", axes, "MODEL.RESNETS.DEPTH", "26"]
    cfg = load_config(str(CONFIGS / "Kinetics/c2d_R_50_nl_32x2.yaml"), opts)
    [block] = analyze(cfg).blocks
    n, c, d = 4 * 14 * 14, 1024, 512
    pooled = n if axes == "time" else n // 4
    seen = {"spacetime": pooled, "space": 7 * 7, "time": 4}[axes]
    convs = n * c * d + 2 * pooled * c * d + n * d * c
    assert block.figures.flops == convs + 2 * n * seen * d


@pytest.mark.slow
def test_the_tool_says_what_a_clip_costs(tool):  # noqa: F811
    words = "--config-file", CONFIGS / "Kinetics/i3d_R_50_nl5_32x2.yaml"
    small = ("MODEL.RESNETS.DEPTH", "26", *FEW)
    title, *lines = tool(*words, "--compare", CONFIGS / "Kinetics/i3d_R_50_8x8.yaml", *small)
    assert title.startswith("i3d_R_50_nl5_32x2: one clip of 32 frames of 224 x 224; i3d_R_50_8x8: ")
    assert sum("nonlocal" in line for line in lines) == 2
    title, *lines = tool(*words, "--size", 256, 256, *small)
    assert title.startswith("One clip of 32 frames of 256 x 256")
