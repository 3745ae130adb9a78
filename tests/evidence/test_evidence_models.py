"""Twins start equal and see equal data; the control is as large as the block; how far convs see."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks.evidence.models import count_parameters, residual_block
from benchmarks.evidence.receptive import receptive_fields
from benchmarks.evidence.runs import RUNS, TABLES, register
from benchmarks.evidence.train import build, loader, train
from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import build_model, find_blocks


def start(name, seed=1):
    run = RUNS[name]
    return build(run, run.config(seed), seed, None)


def shared_are_equal(model, twin):
    theirs, ours = twin.state_dict(), model.state_dict()
    assert theirs.keys() <= ours.keys()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.slow
def test_twins_start_from_equal_weights_wherever_they_share_them():
    baseline = start("baseline")
    for name in sorted({name for t in "ABCD" for name, _ in TABLES[t].values()}):
        assert shared_are_equal(start(name), baseline), name
    assert not shared_are_equal(start("baseline", seed=2), baseline)


@pytest.mark.parametrize("name", ["head", "backbone", "both"])
def test_keypoint_twins_do_too(name, monkeypatch, tiny):
    for full in (f"keypoints_far_{name}", "keypoints_far_baseline"):
        tiny(full, start="")
    assert shared_are_equal(start(f"keypoints_far_{name}"), start("keypoints_far_baseline"))


@pytest.mark.slow
def test_twins_see_equal_images_in_an_equal_order_with_equal_flips(tiny):
    def batches(name, seed=1):
        run = tiny(name)
        build(run, run.config(seed), seed, None)
        batch = iter(loader(run.config(seed), seed))
        return [image for _ in range(3) for image in next(batch)]

    expected = batches("baseline")
    assert len({image["file_name"] for image in expected}) > 8
    for name in ("control", "concatenation", "10_blocks"):
        found = batches(name)
        assert [i["file_name"] for i in found] == [i["file_name"] for i in expected]
        assert all(
            torch.equal(a["image"], b["image"]) for a, b in zip(found, expected, strict=True)
        )
    assert [i["file_name"] for i in batches("baseline", 2)] != [i["file_name"] for i in expected]


@pytest.mark.slow
def test_twins_have_equal_losses_until_the_block_has_learnt(tiny):
    def first_losses(name):
        run = tiny(name)
        run = replace(run, schedule=replace(run.schedule, iterations=1))
        cfg = run.config(1)
        model, watched = build(run, cfg, 1, None), register(run.watched, "val")
        return train(cfg, model, 1, run.schedule, watched)["first"]

    expected = first_losses("baseline")
    assert expected["total_loss"] > 1
    for name in ("control", "norm_BN", "10_blocks"):
        assert first_losses(name) == pytest.approx(expected, abs=2e-4), name


@pytest.mark.parametrize("channels", [64, 256, 1024])
def test_the_control_has_as_many_parameters_as_the_block(channels):
    block = residual_block(channels)
    expected = count_parameters(NonLocalBlock(channels))
    assert count_parameters(block) == pytest.approx(expected, rel=0.03)


def test_the_control_is_an_identity_after_a_relu_and_learns():
    block = residual_block(16).train()
    x = torch.rand(2, 16, 4, 4)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.conv3.norm.weight.grad.abs().max() > 0


def test_the_control_stands_where_the_block_does():
    def order(name, kind):
        stage = build_model(RUNS[name].config(1)).backbone.bottom_up.res4
        return [child.replace(kind, "") for child, _ in stage.named_children()]

    assert order("control", "residual") == order("embedded_gaussian", "nonlocal")
    assert len(order("control", "")) == 7


def test_hes_init_is_of_theta_phi_and_g_alone():
    ours, theirs = (next(iter(find_blocks(start(n)).values())) for n in ("init_he", "no_scale"))
    for conv in (ours.theta, ours.phi, ours.g):
        expected = (2 / ours.in_channels) ** 0.5
        assert conv.weight.std().item() == pytest.approx(expected, rel=0.02)
        assert not conv.bias.any()
    assert theirs.theta.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not ours.w_z.weight.any()


def test_the_receptive_field_is_what_gradients_reach(monkeypatch):
    """With weights above zero and means for maxima, all that counts has a gradient."""
    monkeypatch.setattr(nn.functional, "max_pool2d", nn.functional.avg_pool2d)
    resnet = build_model(RUNS["baseline"].config(1)).backbone.bottom_up.eval().double()
    for module in resnet.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.ones(1, 3, 32, 1024, dtype=torch.double, requires_grad=True)
    for stage, features in resnet(image).items():
        middle = features[..., features.shape[3] // 2].sum()
        [gradient] = torch.autograd.grad(middle, image, retain_graph=True)
        reached = gradient.sum(dim=(0, 1, 2)).nonzero()
        assert reached.max() - reached.min() + 1 == receptive_fields(resnet)[stage], stage
