"""Mixed precision on the CPU's autocast: what trains, in which dtype, and how a run resumes."""

import pytest
import torch
from config_kinds import KINDS
from fast_part import combinations

from nl_detectron.engine import Trainer
from nl_detectron.layers import PAIRWISE, NonLocalBlock
from nl_detectron.modeling import find_blocks

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def scale_by(scaler, scale):
    if scaler.is_enabled():
        scaler.load_state_dict({**scaler.state_dict(), "scale": scale})


def enabled(dtype, *words):
    return ("SOLVER.AMP.ENABLED", "True", "SOLVER.AMP.DTYPE", dtype, *words)


@pytest.mark.slow
@combinations(form=PAIRWISE, dtype=DTYPES)
def test_every_form_trains_and_keeps_the_streams_dtype(form, dtype, tiny_config, tmp_path):
    words = ("MODEL.NONLOCAL.PAIRWISE", form, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
    trainer = Trainer(tiny_config(tmp_path, *enabled(dtype, *words)))
    scale_by(trainer._trainer.grad_scaler, 64.0)  # the first is for the scaler to find its own
    (block,) = find_blocks(trainer.model).values()
    dtypes = set()
    block.register_forward_hook(lambda _, x, z: dtypes.add((x[0].dtype, z.dtype)))
    before = {name: p.clone() for name, p in block.named_parameters()}
    trainer.train()
    assert dtypes == {(DTYPES[dtype], DTYPES[dtype])}
    assert all(p.isfinite().all() for p in trainer.model.parameters())
    assert not torch.equal(before["w_z.weight"], block.w_z.weight)


@pytest.mark.slow
@pytest.mark.parametrize("dtype, scaled", [("float16", True), ("bfloat16", False)])
def test_only_float16_scales_its_losses_and_a_resumed_run_goes_on_with_the_scale(
    dtype, scaled, tiny_config, tmp_path
):
    words = enabled(dtype, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()")
    trainer = Trainer(tiny_config(tmp_path, *words))
    scaler = trainer._trainer.grad_scaler
    assert scaler.is_enabled() == scaled
    scale_by(scaler, 64.0)
    trainer.train()
    resumed = Trainer(tiny_config(tmp_path, *words))
    resumed.resume_or_load(resume=True)
    assert resumed._trainer.grad_scaler.get_scale() == (64.0 if scaled else 1.0)


@pytest.mark.parametrize("form", ["dot_product", "concatenation", "gaussian"])
@pytest.mark.parametrize("norm", ["", "BN", "GN", "LN"])
@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_features_near_the_end_of_float16_overflow_in_no_sum_or_norm(form, norm, dtype):
    block = NonLocalBlock(64, pairwise=form, norm=norm).train()
    torch.nn.init.normal_(block.w_z.weight, std=0.001)
    x = (500 * torch.randn(2, 64, 8, 8)).relu().to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype):
        z = block(x)
    z.float().mean().backward()
    assert z.dtype == dtype and z.isfinite().all()
    assert x.grad.isfinite().all() and all(p.grad.isfinite().all() for p in block.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_config_of_either_kind_chooses_the_precision(kind, tiny_of_kind, tmp_path):
    for options, expected in (({}, torch.float16), ({"amp_dtype": "bfloat16"}, torch.bfloat16)):
        trainer = Trainer(tiny_of_kind(kind, tmp_path, amp=True, max_iter=1, **options))
        assert trainer._trainer.precision == expected
