"""Whole models with blocks in training: what is frozen, what gets gradients, DDP, batches."""

import pytest
import torch
from detectron2.layers import FrozenBatchNorm2d
from fast_part import first_cases
from helpers import losses, make_batch, randomise, tiny_cfg, with_blocks
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nl_detectron.modeling import build_model, find_blocks


@pytest.mark.parametrize("norm", ["", "BN"])
def test_block_in_a_frozen_stage_stays_trainable(norm):
    cfg = with_blocks(tiny_cfg(), ["res3.0", "res4.-2"], NORM=norm)
    cfg.MODEL.BACKBONE.FREEZE_AT = 4  # the stem, res2, res3 and res4
    model = build_model(cfg)
    resnet = model.backbone.bottom_up
    blocks = (resnet.res3.nonlocal0, resnet.res4.nonlocal4)
    ours = {id(p) for block in blocks for p in block.parameters()}
    for stage in (resnet.stem, resnet.res2, resnet.res3, resnet.res4):
        for parameter in stage.parameters():
            assert parameter.requires_grad == (id(parameter) in ours)
    for block in blocks:
        assert not any(isinstance(m, FrozenBatchNorm2d) for m in block.modules())

    sum(losses(model, make_batch()).values()).backward()
    for block in blocks:
        last = block.norm if norm else block.w_z
        assert last.weight.grad.abs().max() > 0
    assert resnet.res4[0].conv1.weight.grad is None


def test_frozen_batch_norm_of_the_backbone_is_not_the_blocks():
    model = build_model(with_blocks(tiny_cfg(), NORM="BN"))
    block = model.backbone.bottom_up.res4.nonlocal4
    assert isinstance(model.backbone.bottom_up.res4[0].conv1.norm, FrozenBatchNorm2d)
    assert type(block.norm) is nn.BatchNorm2d


def test_batch_norm_of_blocks_converts_to_sync_batch_norm():
    model = build_model(with_blocks(tiny_cfg(task="keypoint"), head=[2], NORM="BN"))
    for block in find_blocks(model).values():
        randomise(block)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    blocks = find_blocks(converted)
    assert len(blocks) == 2
    assert all(isinstance(block.norm, nn.SyncBatchNorm) for block in blocks.values())
    after = converted.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[k], before[k]) for k in before)


@pytest.fixture
def process_group(tmp_path):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.slow
@first_cases(
    1,
    "task, head, keys",
    [
        ("mask", (), {"PAIRWISE": "concatenation", "NORM": "BN"}),
        ("mask", (), {"PAIRWISE": "gaussian", "NORM": "GN"}),
        ("keypoint", (2, 4, 6, 8), {"PAIRWISE": "embedded_gaussian"}),
        ("keypoint", (8,), {"PAIRWISE": "dot_product", "SUBSAMPLE": "after", "NORM": "LN"}),
    ],
)
def test_distributed_training_finds_no_unused_parameter(process_group, task, head, keys):
    # GN wants 32 groups, which res3 and res4 have; the keypoint head here has not
    model = build_model(with_blocks(tiny_cfg(task=task), ["res3.*", "res4.-2"], head, **keys))
    ddp = DistributedDataParallel(model, find_unused_parameters=False)
    optimizer = torch.optim.SGD(
        [p for p in model.parameters() if p.requires_grad], lr=1e-3, momentum=0.9
    )
    batch = make_batch()
    for _ in range(2):  # DDP tells of the first step's unused parameters in the second
        optimizer.zero_grad()
        sum(losses(ddp, batch).values()).backward()
        optimizer.step()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
    assert all(b.w_z.weight.abs().max() > 0 for b in find_blocks(model).values())


@pytest.mark.parametrize("arch, size", [("FPN", (64, 96)), ("C4", (50, 70))])
def test_image_alone_is_not_padded(arch, size):
    # so that at inference, with batches of one, no padding takes part (FPN: sides of whole 32s)
    model = build_model(with_blocks(tiny_cfg(arch)))
    alone = model.preprocess_image(make_batch([size])).tensor
    assert alone.shape[2:] == size
    with_a_larger = model.preprocess_image(make_batch([size, (128, 128)])).tensor
    assert with_a_larger.shape[2:] == (128, 128)
    assert not with_a_larger[0, :, size[0] :].any()  # zeros, which the blocks see
