"""MODEL.NONLOCAL.MASK_PADDING: the sizes of a batch's images reach the blocks of its backbone."""

import copy
import tempfile
from concurrent.futures import ThreadPoolExecutor

import detectron2.modeling
import pytest
import torch
from fast_part import first_cases
from helpers import (
    build,
    detections,
    losses,
    make_batch,
    randomise,
    thin_cfg,
    tiny_cfg,
    with_blocks,
)
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from nl_detectron.engine import load_run
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.modeling.image_sizes import PaddedSizes, sizes_in_map

SIZES = [(70, 130), (101, 67)]  # multiples of nothing
ARCHITECTURES = [
    "COCO-Detection/retinanet_R_50_FPN_nl_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_C4_nl_1x",
    "COCO-InstanceSegmentation/mask_rcnn_R_50_DC5_nl_1x",
    "Misc/cascade_mask_rcnn_R_50_FPN_nl_1x",
    "COCO-PanopticSegmentation/panoptic_fpn_R_50_nl_1x",
]


def masked(cfg, on=True):
    cfg.MODEL.NONLOCAL.MASK_PADDING = on
    return cfg


def small_model(on=True, **keys) -> nn.Module:
    model = build(masked(with_blocks(tiny_cfg(), ["res4.-2"], **keys), on), seed=1)
    for block in find_blocks(model).values():
        randomise(block, std=0.1)
    return model


class Recorded:
    """The input, the sizes and the output of a model's only block, while it runs."""

    def __init__(self, model: nn.Module):
        [self.block] = find_blocks(model).values()
        self.block.register_forward_hook(self._keep)

    def _keep(self, block, args, z) -> None:
        self.x, self.sizes, self.z = args[0].detach(), (args[1:] or (None,))[0], z.detach()

    def assert_each_is_alone(self) -> None:
        for x, z, (height, width) in zip(self.x, self.z, self.sizes, strict=True):
            alone = self.block(x[None, :, :height, :width].contiguous())[0]
            torch.testing.assert_close(z[:, :height, :width], alone, rtol=1e-4, atol=1e-4)


@first_cases(1, "name", ARCHITECTURES)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_in_every_architecture_a_block_sees_each_image_alone(name, mode):
    cfg = masked(thin_cfg(name))
    cfg.MODEL.NONLOCAL.BACKBONE.AFTER = ["res4.-2"]
    model = build(cfg, seed=1)
    for block in find_blocks(model).values():
        randomise(block, std=0.1)
    seen = Recorded(model)
    batch = make_batch(SIZES)
    run = losses if mode == "train" else detections
    with torch.no_grad():
        run(model, batch)
        assert seen.sizes == [[-(-side // 16) for side in size] for size in SIZES]
        seen.assert_each_is_alone()


@pytest.mark.parametrize("stride", [4, 8, 16, 32])
@pytest.mark.parametrize("padded", [(64, 96), (101, 130), (3, 33)])  # also without divisibility
def test_sizes_in_a_map_are_rounded_up(padded, stride):
    images = [(1, 1), (padded[0], 17), (2, padded[1])]
    shape = [-(-side // stride) for side in padded]
    expected = [[-(-side // stride) for side in image] for image in images]
    assert sizes_in_map(PaddedSizes(padded, images), shape) == expected


@pytest.mark.slow
def test_a_step_under_autocast_trains_the_block():
    model = small_model(NORM="BN", CHECKPOINT=True).train()
    seen = Recorded(model)
    with torch.autocast("cpu", torch.bfloat16):
        step = losses(model, make_batch(SIZES))
    sum(step.values()).backward()
    assert seen.sizes == [[5, 9], [7, 5]]
    assert all(p.grad.isfinite().all() and p.grad.any() for p in seen.block.w_z.parameters())


@pytest.mark.slow
def test_a_batch_without_padding_and_a_model_with_the_key_off_run_as_before():
    model, without = small_model(), small_model(on=False)
    assert "preprocess_image" not in vars(without)
    hooks = [m for m in without.modules() if m._forward_pre_hooks or m._forward_hooks]
    assert not hooks
    seen = Recorded(model)
    batch = make_batch([(64, 96), (64, 96)])
    for name, value in detections(model, batch).items():
        assert torch.equal(value, detections(without, batch)[name])
    assert seen.sizes is None


def test_a_single_image_is_padded_to_the_models_divisibility():
    model = small_model()
    seen = Recorded(model)
    with torch.no_grad():
        detections(model, make_batch([(70, 96)]))
        assert seen.sizes == [[5, 6]] and seen.x.shape[2:] == (6, 6)
        model.inference(make_batch([(70, 70)]))  # as test-time augmentation does
        assert seen.sizes == [[5, 5]]


def test_an_image_thinner_than_two_positions_takes_a_padded_one_along():
    seen = Recorded(model := small_model())
    with torch.no_grad():
        detections(model, make_batch([(64, 64), (50, 9)]))
    assert seen.sizes == [[4, 4], [4, 2]]


@pytest.mark.slow
@pytest.mark.parametrize("copied", [False, True], ids=["model", "deepcopy"])
def test_threads_do_not_mix_their_batches(copied):
    model = small_model().eval()
    if copied:
        model = copy.deepcopy(model)
        assert model.preprocess_image.__self__ is model
    batches = [make_batch([(64, 64), (32 * n, 16 * n)]) for n in range(2, 6)]
    with torch.no_grad():
        expected = [detections(model, batch) for batch in batches]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda b: detections(model, b), batches * 2))
    for one, other in zip(found, expected * 2, strict=True):
        for name in other:
            torch.testing.assert_close(one[name], other[name])


def test_an_error_leaves_no_sizes_behind():
    model = small_model()
    handle = model.backbone.bottom_up.res3.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        detections(model, make_batch(SIZES))
    handle.remove()
    seen = Recorded(model)
    with torch.no_grad():
        model.backbone(torch.rand(1, 3, 64, 64))
    assert seen.sizes is None


def test_a_distributed_model_masks_too():
    model = small_model(NORM="naiveSyncBN")
    seen = Recorded(model)
    with tempfile.TemporaryDirectory() as folder:
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/store", rank=0, world_size=1
        )
        try:
            step = losses(
                DistributedDataParallel(model, broadcast_buffers=False), make_batch(SIZES)
            )
            sum(step.values()).backward()
        finally:
            torch.distributed.destroy_process_group()
    assert seen.sizes == [[5, 9], [7, 5]]


def test_a_lazy_config_has_the_same_key(monkeypatch):
    file = "configs/Demo/relay_mask_rcnn_nl.py"
    opts = ["model.backbone.block.mask_padding=true", "train.device=cpu"]
    model = load_run(file, opts).build_model()
    seen = Recorded(model)
    with torch.no_grad():
        detections(model, make_batch([(64, 96), (32, 64)]))
    assert seen.sizes is not None


# --- errors ---------------------------------------------------------------------------------------


def test_a_model_that_does_not_attach_sizes_is_an_error_for_several_images():
    cfg = masked(with_blocks(tiny_cfg()))
    model = detectron2.modeling.build_model(cfg)  # Detectron2's own
    with pytest.raises(ValueError, match=r"MASK_PADDING: the sizes .*attach_image_sizes"):
        detections(model, make_batch(SIZES))


@pytest.mark.parametrize("name", ["ProposalNetwork", "SemanticSegmentor"])
def test_a_meta_architecture_that_hides_its_sizes_is_refused(name):
    cfg = masked(with_blocks(tiny_cfg()))
    cfg.MODEL.META_ARCHITECTURE = name
    with pytest.raises(ValueError, match=f"MASK_PADDING: {name} pads its images without"):
        build_model(cfg)
