"""What models cost: against counts by hand, Detectron2's own counter and tensors that are real."""

import dataclasses
from dataclasses import astuple
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.modeling.roi_heads import keypoint_head
from detectron2.structures import Instances
from detectron2.utils.analysis import FlopCountAnalysis
from fast_part import first_cases
from helpers import needs_fake_cuda, thin_cfg, tiny_cfg, with_blocks
from torch import nn
from torch.nn import functional as F
from torch.torch_version import TorchVersion

from nl_detectron.analysis import analyze, count_flops, count_saved
from nl_detectron.analysis_layers import run_layers
from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.layers import PAIRWISE, SUBSAMPLES, NonLocalBlock
from nl_detectron.modeling import find_blocks

CONFIGS = Path(__file__).parents[1] / "configs"
MASK_RCNN = str(CONFIGS / "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
WITH_BLOCK = MASK_RCNN.replace("1x", "nl_1x")

MODELS = [("FPN", "mask"), ("FPN", "keypoint"), ("FPN", "box"), ("C4", "mask"), ("DC5", "mask")]
OTHERS = [  # as our configs have them
    ("COCO-Detection/retinanet_R_50_FPN_1x", "box"),
    ("Misc/cascade_mask_rcnn_R_50_FPN_1x", "mask"),
    ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x", "mask"),
]
B, C, D, H, W = 2, 16, 8, 6, 10
N, M = H * W, H * W // 4


@cache
def at_full_size(file: str):
    return analyze(load_config(file))


# --- the figures of the paper ----------------------------------------------------------------


@pytest.mark.slow
def test_a_block_adds_less_than_5_percent_of_mask_rcnns_flops():
    """Sec. 6: "<5%" for one block."""
    ours, twin = at_full_size(WITH_BLOCK), at_full_size(MASK_RCNN)
    added = ours.figures.flops - twin.figures.flops
    assert 0.03 < added / twin.figures.flops < 0.05
    assert [block.figures.flops for block in ours.blocks] == [added]


def test_a_block_after_res4_by_hand():
    (block,) = at_full_size(WITH_BLOCK).blocks
    n, m, c, d = 50 * 84, 25 * 42, 1024, 512
    convs = n * c * d + 2 * m * c * d + n * d * c  # theta; phi, g; W_z
    assert block.figures.flops == convs + n * m * 2 * d
    assert block.figures.parameters == 2_099_712 == 3 * (c * d + d) + d * c + c
    # theta, y; pooled x; phi, g; neither the pool's indices nor the weights
    assert block.figures.activations == 4 * (n * 2 * d + m * c + m * 2 * d)
    assert (block.name, block.channels) == ("backbone.bottom_up.res4.nonlocal4", (c, d))
    assert (block.pairwise, block.impl) == ("embedded_gaussian", "fused")


def test_a_model_and_its_twin_differ_by_the_block_alone():
    ours, twin = at_full_size(WITH_BLOCK), at_full_size(MASK_RCNN)
    more, (block,) = ours.figures.minus(twin.figures), ours.blocks
    assert more.parameters == block.figures.parameters
    z = 4 * 1024 * 50 * 84  # saved by the residual block behind
    assert more.activations == block.figures.activations + z


# --- FLOPs -----------------------------------------------------------------------------------

CONVS = {
    "gaussian": N * C * D + M * C * D,  # W_z; g
    "global_context": 2 * M * C * D + D * C,  # phi, g; W_z of one position
    "disentangled": 2 * N * C * D + 2 * M * C * D + M * C,  # phi has a channel more
}
SUMS = {  # fast and plain, by hand
    "gaussian": (N * M * (C + D), N * M * (C + D)),
    "embedded_gaussian": (N * M * 2 * D, N * M * 2 * D),
    "dot_product": ((N + M) * D * D, N * M * 2 * D),
    "concatenation": ((N + M) * D, (N + M) * D + N * M * D),
    # plain of one position i, which is all that the block asks for
    "global_context": (M * 2 * D, M * 2 * D),
    "disentangled": (N * M * 2 * D + M * D, N * M * 2 * D),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("pairwise", PAIRWISE)
def test_flops_of_a_block_by_hand(pairwise, fused, monkeypatch):
    block = NonLocalBlock(C, pairwise=pairwise)
    monkeypatch.setattr(block.pairwise, "prefers_fused", lambda sizes: fused)
    with count_flops() as total, torch.no_grad():
        block(torch.rand(B, C, H, W))
    convs = CONVS.get(pairwise, 2 * N * C * D + 2 * M * C * D)
    assert total() == B * (convs + SUMS[pairwise][not fused])


def test_fused_attention_counts_as_two_products():
    q, k, v = torch.rand(3, 1, 7, 8), torch.rand(3, 1, 5, 8), torch.rand(3, 1, 5, 8)
    with count_flops() as total, torch.no_grad():
        F.scaled_dot_product_attention(q, k, v)
    assert total() == 3 * 7 * 5 * (8 + 8)


ELEMENTWISE = {"batch_norm", "grid_sampler", "group_norm"}
ELEMENTWISE |= {"upsample_bilinear2d", "upsample_nearest2d"}


@pytest.mark.slow
@first_cases(2, "arch, task", MODELS + OTHERS)
def test_flops_are_those_that_detectron2_counts(arch, task, monkeypatch):
    # what it does with a keypoint head's logits asserts when traced, and has no multiply-adds
    monkeypatch.setattr(keypoint_head, "keypoint_rcnn_inference", keep_logits)
    # a form that its counter knows: it passes fused attention over, and stops at a vector's product
    cfg = with_blocks(config_of(arch, task), PAIRWISE="dot_product")
    model = build_model(cfg).eval()
    boxes = count_rows(model, "roi_heads.box_predictor")
    objects = count_rows(model, f"roi_heads.{task}_head")
    theirs = FlopCountAnalysis(model, [{"image": torch.rand(3, 64, 96)}])
    theirs.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    products = {k: v for k, v in theirs.by_operator().items() if k not in ELEMENTWISE}
    with count_flops() as total, torch.no_grad():
        run_layers(model, torch.empty(1, 3, 64, 96), boxes[-1], objects[-1])
    assert total() == sum(products.values())


def keep_logits(logits: torch.Tensor, instances: list[Instances]) -> None:
    instances[0].pred_keypoints = logits


def config_of(arch: str, task: str):
    return thin_cfg(arch) if "/" in arch else tiny_cfg(arch, task)


def count_rows(model: nn.Module, part: str) -> list[int]:
    """Of each call of a part of the RoI heads, after the 0 of a model without: a list that fills
    while the model runs."""
    rows = [0]
    modules = dict(model.named_modules())
    module = modules.get(f"{part}.0", modules.get(part))  # the first stage's
    if module:
        module.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    return rows


# --- activation memory -----------------------------------------------------------------------


def test_activations_of_a_small_module_by_hand():
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 7), nn.Sigmoid())
    x = torch.rand(2, 3)
    with count_saved(module) as total:
        module(x)
    # x; ReLU's output, which the second linear shares; the sigmoid's; no weights
    assert total() == 4 * 2 * (3 + 5 + 7)


def test_nothing_is_kept_without_gradients():
    block = NonLocalBlock(C)
    with count_saved(block) as total, torch.no_grad():
        block(torch.rand(B, C, H, W))
    assert total() == 0


@pytest.mark.slow
@first_cases(1, "name", [name for name, _ in OTHERS])
def test_fake_tensors_of_other_models_keep_what_real_ones_do(name):
    cfg = with_blocks(thin_cfg(name))
    model = build_model(cfg).train()
    with count_saved(model) as total:
        run_layers(model, torch.rand(1, 3, 64, 96), 8, 2)
    found = analyze(cfg, 64, 96)
    assert found.figures.activations == total() > 0
    assert found.figures.parameters == sum(p.numel() for p in model.parameters())


@pytest.mark.slow
@first_cases(2, "pairwise", PAIRWISE)
def test_fake_tensors_keep_what_real_ones_do(pairwise):
    cfg = with_blocks(tiny_cfg(), PAIRWISE=pairwise)
    model = build_model(cfg).train()
    with count_saved(model) as total:
        run_layers(model, torch.rand(1, 3, 64, 96), 8, 2)
    assert analyze(cfg, 64, 96).figures.activations == total() > 0


def test_a_torch_that_cannot_count_for_a_gpu_is_named(monkeypatch):
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.0"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match=r"torch 2\.8\.0 counts .* use torch 2\.14 or newer"):
        analyze(load_config(WITH_BLOCK), 64, 64, device="cuda")


@pytest.mark.slow
@needs_fake_cuda
@pytest.mark.parametrize(
    "size, copies", [((800, 1344), 0), ((320, 320), 1)], ids=["dense", "fused"]
)
def test_a_gpu_keeps_no_weights(size, copies):
    """Nor x again, unless fused attention needs it in channels-last."""
    (block,) = analyze(load_config(WITH_BLOCK), *size, device="cuda").blocks
    c, n = block.channels[0], size[0] // 16 * (size[1] // 16)
    m = n // 4
    # copies of x, theta, y; pooled x, phi, g; one number a position, if attention is fused
    least = 4 * (copies * n * c + n * c + 2 * m * c)
    assert least <= block.figures.activations <= least + copies * 4 * (n + 32)
    flops = analyze(load_config(WITH_BLOCK), *size).blocks[0].figures.flops
    assert flops <= block.figures.flops < 1.003 * flops  # positions are rounded up to eight


# --- whole models ----------------------------------------------------------------------------


@pytest.mark.slow
@first_cases(
    2,
    "arch, task, pairwise, subsample",
    [
        (*model, pairwise, subsample)
        for model, pairwise, subsample in zip(MODELS, PAIRWISE, SUBSAMPLES * 2, strict=False)
    ],
)
def test_every_form_and_model_is_known(arch, task, pairwise, subsample):
    head = [2, 4] if task == "keypoint" else []
    keys = {"PAIRWISE": pairwise, "SUBSAMPLE": subsample}
    blocks = analyze(with_blocks(tiny_cfg(arch, task), ["res3.*"], head, **keys), 64, 96).blocks
    assert len(blocks) == 4 + len(head)
    for block in blocks:
        assert block.pairwise == pairwise and block.impl in ("fused", "dense")
        assert min(astuple(block.figures)) > 0


@pytest.mark.slow
def test_parameters_are_the_models():
    cfg = with_blocks(tiny_cfg())
    model = build_model(cfg)
    found = analyze(cfg, 64, 64)
    assert found.figures.parameters == sum(p.numel() for p in model.parameters())
    assert [block.name for block in found.blocks] == list(find_blocks(model))


@pytest.mark.slow
def test_an_image_is_padded_as_detectron2_pads():
    small, padded = analyze(tiny_cfg(), 50, 70), analyze(tiny_cfg(), 64, 96)
    assert dataclasses.replace(small, size=padded.size) == padded


@pytest.mark.slow
def test_heads_see_as_many_boxes_as_the_config_allows():
    cfg = tiny_cfg()
    fewer = cfg.clone()
    fewer.MODEL.RPN.POST_NMS_TOPK_TEST -= 1
    fewer.TEST.DETECTIONS_PER_IMAGE -= 1
    model = build_model(cfg).eval().roi_heads
    with count_flops() as total, torch.no_grad():
        model.box_predictor(model.box_head(torch.rand(1, 16, 4, 4)))
        model.mask_head.layers(torch.rand(1, 16, 8, 8))
    assert analyze(cfg, 64, 64).figures.minus(analyze(fewer, 64, 64).figures).flops == total()


def test_another_kind_of_model_is_refused():
    cfg = tiny_cfg()
    cfg.MODEL.META_ARCHITECTURE = "ProposalNetwork"
    with pytest.raises(UsageError, match=r"knows GeneralizedRCNN .* got ProposalNetwork"):
        analyze(cfg)
