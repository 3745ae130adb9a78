"""FLOPs and parameters of video models, held against published figures."""

import pytest
import torch
from helpers import CONFIGS
from test_analyze_model import tool  # noqa: F401  a fixture
from torch import nn

from nl_detectron.analysis import analyze
from nl_detectron.engine import build_on_meta, load_config

# Table 2e counts the ResNet-101 with the stride in the 1x1 convs and the released pool1.
PAPER = ["MODEL.RESNETS.STRIDE_IN_1X1", "True", "MODEL.VIDEO.POOL1", "released"]


def figures_of(name, *opts, size=224):
    cfg = load_config(str(CONFIGS / f"Kinetics/{name}.yaml"), opts)
    return cfg, analyze(cfg, size, size).figures


def norm_parameters(cfg):
    model = build_on_meta(cfg)
    norms = (m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    return sum(p.numel() for norm in norms for p in norm.parameters())


def norm_operations(cfg, size):
    """Two for each value that a batch norm normalises, as mmcv's counter has it."""
    model, total = build_on_meta(cfg).eval(), 0

    def count(_, args):
        nonlocal total
        total += 2 * args[0].numel()

    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(count)
    model.scores(torch.empty(1, 3, 32, size, size, device="meta"))
    return total


def test_c2d_and_its_relatives_cost_what_table_2e_says():
    cfg, c2d = figures_of("c2d_R_101_32x2", *PAPER)
    # the paper counts no parameters of norms
    assert (c2d.parameters - norm_parameters(cfg)) / 1e6 == pytest.approx(43.2, abs=0.05)
    assert c2d.flops / 1e9 == pytest.approx(34.2, abs=0.05)
    for name, parameters, flops in (
        ("c2d_R_101_nl5_32x2", 1.2, 1.2),
        ("i3d_3x3x3_R_101_32x2", 1.5, 1.8),
        ("i3d_R_101_32x2", 1.2, 1.5),  # 1.44 with these strides, 1.46 with ours
    ):
        opts = PAPER if name != "i3d_R_101_32x2" else PAPER[2:]
        twin = c2d if opts == PAPER else figures_of("c2d_R_101_32x2", *opts)[1]
        _, found = figures_of(name, *opts)
        assert round(found.parameters / twin.parameters, 1) == parameters
        assert round(found.flops / twin.flops, 1) == flops


def test_five_blocks_over_r50_cost_less_than_r101():
    _, five = figures_of("c2d_R_50_nl5_32x2")
    _, deep = figures_of("c2d_R_101_32x2")
    # "about 70% parameters and 80% FLOPs" (Sec. 5.1)
    assert five.parameters / deep.parameters == pytest.approx(0.7, abs=0.05)
    assert five.flops / deep.flops == pytest.approx(0.8, abs=0.05)


# mmaction2's I3D, on crops of 256; its blocks pool phi and g. Its counter adds the norms, and has
# the matrix of all pairs for dot_product, which is the same as for embedded_gaussian.
@pytest.mark.parametrize(
    ("name", "form", "parameters", "flops"),
    [
        ("i3d_R_50_32x2", None, 28.0, 43.5),
        ("i3d_R_50_nl5_32x2", "embedded_gaussian", 35.4, 59.3),
        ("i3d_R_50_nl5_32x2", "gaussian", 31.7, 56.5),
    ],
)
def test_i3d_costs_what_mmaction2_publishes(name, form, parameters, flops):
    opts = ["MODEL.NONLOCAL.SUBSAMPLE", "after"]
    opts += ["MODEL.NONLOCAL.PAIRWISE", form] if form else []
    cfg, found = figures_of(name, *opts, size=256)
    assert found.parameters / 1e6 == pytest.approx(parameters, abs=0.05)
    counted = found.flops + norm_operations(cfg, 256)
    assert counted / 1e9 == pytest.approx(flops, abs=0.06)


@pytest.mark.parametrize("axes", ["spacetime", "space", "time"])
def test_a_blocks_flops_are_those_of_its_parts(axes):
    """By hand: four convs, phi and g on pooled positions, and two products of the pairs."""
    opts = ["MODEL.NONLOCAL.AXES", axes]
    cfg = load_config(str(CONFIGS / "Kinetics/c2d_R_50_nl_32x2.yaml"), opts)
    [block] = analyze(cfg).blocks
    n, c, d = 4 * 14 * 14, 1024, 512
    pooled = n if axes == "time" else n // 4
    seen = {"spacetime": pooled, "space": 7 * 7, "time": 4}[axes]
    convs = n * c * d + 2 * pooled * c * d + n * d * c
    assert block.figures.flops == convs + 2 * n * seen * d


def test_the_tool_says_what_a_clip_costs(tool):  # noqa: F811
    words = "--config-file", CONFIGS / "Kinetics/i3d_R_50_nl5_32x2.yaml"
    title, *lines = tool(*words, "--compare", CONFIGS / "Kinetics/i3d_R_50_8x8.yaml")
    assert title.startswith("i3d_R_50_nl5_32x2: one clip of 32 frames of 224 x 224; i3d_R_50_8x8: ")
    assert sum("->" in line for line in lines) == 5
    title, *lines = tool(*words, "--size", 256, 256)
    assert title.startswith("One clip of 32 frames of 256 x 256")
    assert lines[-1].split()[1] == "35,397,840"
