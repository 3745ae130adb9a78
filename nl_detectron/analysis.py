"""Counts parameters, FLOPs and activation memory of a model and of each of its non-local blocks.

A FLOP is one multiply-add of a convolution or a matrix product (fused attention has two products),
as in the paper and in Detectron2. Sums, norms, softmax, pooling, sorting and gathering are not
counted. Detectron2's own counter runs the model, ignores fused attention and fails at a product
with a vector; PyTorch's counter, used here, supports both. Tensors are fake: they have shapes but
no memory, and nothing is computed. They take the same path as float32 tensors on a CPU or a GPU,
and the GPU need not exist.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import cast

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, GeneralizedRCNN, PanopticFPN, RetinaNet
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads, Res5ROIHeads, StandardROIHeads
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, sdpa_flop_count

from .engine import build_on_meta
from .errors import UsageError
from .layers.choice import Sizes
from .modeling import find_blocks

SMALLEST = 32  # pixels per side; smaller images leave no positions in res5


@dataclass(frozen=True)
class Figures:
    """Figures of a block or a model, on one image.

    Attributes:
        parameters: number of parameters, trained or frozen.
        flops: FLOPs of inference.
        activations: bytes that the forward pass of training keeps for the backward pass, each
            storage once, without parameters. For a block, only what it keeps itself: neither x,
            which the previous layer keeps anyway, nor z, which the next layer keeps. The model's
            figure includes both.
    """

    parameters: int
    flops: int
    activations: int

    def minus(self, other: "Figures") -> "Figures":
        return Figures(*(a - b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass
class BlockAnalysis:
    """Figures of one non-local block.

    Attributes:
        name: the module's name.
        channels: C of x, and D of theta, phi and g.
        pairwise: the pairwise function's name.
        impl: implementation of the sum, "fused" or "dense" (``Pairwise.prefers_fused``).
    """

    name: str
    channels: tuple[int, int]
    pairwise: str
    impl: str
    figures: Figures


@dataclass
class Analysis:
    """Figures of a whole model and of each of its non-local blocks."""

    figures: Figures
    blocks: list[BlockAnalysis]


def analyze(cfg: CfgNode, height: int = 800, width: int = 1344, device: str = "cpu") -> Analysis:
    """Count the figures of a config's model on one image, without weights and without computing.

    The number of boxes that a detector finds depends on its weights and the image. Here the heads
    get the largest possible number: in inference POST_NMS_TOPK_TEST proposals, and
    DETECTIONS_PER_IMAGE of them with a mask or keypoints; in training BATCH_SIZE_PER_IMAGE, of
    which POSITIVE_FRACTION are objects. A model and its baseline thus differ by their blocks only.
    Losses and the selection of proposals and detections are not counted.

    Args:
        cfg: config of the model.
        height, width: image size in pixels, padded to the backbone's ``size_divisibility``.
        device: cpu or cuda. It decides how sums are computed and thus what is kept for the backward
            pass. With cuda, no GPU is needed from torch 2.14 on.

    Raises:
        UsageError: the config describes no model, or another one than Faster, Mask, Keypoint or
            Cascade R-CNN, Panoptic FPN or RetinaNet, the image is too small, or this torch needs a
            GPU for the device.
    """
    if device == "cuda" and not knows_fake_cuda():
        raise UsageError(
            f"device cuda: torch {torch.__version__} counts for a GPU only where it sees one; use "
            "torch 2.14 or newer, or device cpu"
        )
    if min(height, width) < SMALLEST:
        raise UsageError(
            f"image: expected at least {SMALLEST} pixels per side, got {height} x {width}"
        )
    model = build_on_meta(cfg)
    _check_kind(model)
    tested = cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.TEST.DETECTIONS_PER_IMAGE
    trained = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    objects = int(trained * cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION)
    # the non-fake inputs are those on the meta device, which are moved to ``device``
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device=device)
        impls = _watch_impls(model)
        unit = cast(Backbone, model.backbone).size_divisibility or 1
        size = (-(-side // unit) * unit for side in (height, width))
        image = torch.empty(1, 3, *size, device=device)
        try:
            with torch.no_grad(), count_flops() as total, FusedAttention(device):
                flops = _by_block(model, total, lambda: _forward(model.eval(), image, *tested))
            with count_saved(model) as total, FusedAttention(device):
                saved = _by_block(
                    model, total, lambda: _forward(model.train(), image, trained, objects)
                )
        except ValueError as error:  # a block has too few positions
            raise UsageError(f"image of {height} x {width}: {error}") from error
    figures = {
        name: Figures(_parameters(model.get_submodule(name)), flops[name], saved[name])
        for name in flops
    }
    blocks = [
        BlockAnalysis(
            name,
            (block.in_channels, block.inner_channels),
            block.pairwise_name,
            impls[name],
            figures[name],
        )
        for name, block in find_blocks(model).items()
    ]
    return Analysis(figures[""], blocks)


@contextmanager
def count_flops() -> Iterator[Callable[[], int]]:
    """Context that yields a function for the number of multiply-adds so far."""
    # PyTorch's counter counts a multiply-add as two, and supports all products except these
    products = {
        torch.ops.aten.baddbmm_: lambda out, a, b, **_: bmm_flop(a, b),
        torch.ops.aten.mv: lambda matrix, _, **__: 2 * matrix[0] * matrix[1],
        torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: (
            lambda q, k, v, *_, **__: sdpa_flop_count(q, k, v)
        ),
    }
    with FlopCounterMode(display=False, custom_mapping=products) as counter:
        yield lambda: counter.get_total_flops() // 2


def knows_fake_cuda() -> bool:
    """Whether PyTorch can compute with fake CUDA tensors. Version 2.8 needs a driver for it."""
    return torch.cuda.is_available() or torch.__version__ >= "2.14"


class FusedAttention(TorchFunctionMode):
    """Uses the GPU's fused attention for fake CUDA tensors.

    Without a GPU, PyTorch uses the plain formula for them and keeps all weights.
    """

    def __init__(self, device: str):
        super().__init__()
        self.active = device == "cuda"

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if self.active and func is F.scaled_dot_product_attention:
            attend = torch.ops.aten._scaled_dot_product_efficient_attention
            return attend(*args, None, compute_log_sumexp=torch.is_grad_enabled(), **kwargs)[0]
        return func(*args, **kwargs)


@contextmanager
def count_saved(module: nn.Module) -> Iterator[Callable[[], int]]:
    """Context that yields a function for the number of bytes that autograd has saved so far.

    Each storage counts once. The module's parameters and buffers do not count.
    """

    def key(tensor: Tensor) -> int:
        return tensor.untyped_storage()._cdata  # a fake tensor's data_ptr is 0

    own = {key(t) for t in (*module.parameters(), *module.buffers())}
    kept = {}  # keeps the tensors alive, so that no storage gets the key of another

    def pack(tensor: Tensor) -> Tensor:
        if key(tensor) not in own:
            kept[key(tensor)] = tensor
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        yield lambda: sum(t.untyped_storage().nbytes() for t in kept.values())


def _by_block(model: nn.Module, total: Callable[[], int], run: Callable[[], object]) -> dict:
    """What ``run`` adds to a total, by each block's name, and by "" for the whole model."""
    added, handles = {}, []
    for name, block in find_blocks(model).items():
        added[name] = 0

        def before(*_, name=name):
            added[name] -= total()

        def after(*_, name=name):
            added[name] += total()

        handles += [block.register_forward_pre_hook(before), block.register_forward_hook(after)]
    run()
    for handle in handles:
        handle.remove()
    return {"": total(), **added}


def _watch_impls(model: nn.Module) -> dict[str, str]:
    """Record the implementation of the sum by each block's name, when the model runs."""
    impls = {}
    for name, block in find_blocks(model).items():

        def note(pairwise, args, name=name):
            theta, _, g = args
            fused = pairwise.prefers_fused(Sizes.of(theta, g))
            impls[name] = "fused" if fused else "dense"

        block.pairwise.register_forward_pre_hook(note)
    return impls


def _check_kind(model: nn.Module) -> None:
    if type(model) is RetinaNet:
        return
    parts = [type(getattr(model, p, None)) for p in ("proposal_generator", "roi_heads")]
    known = [(RPN, heads) for heads in (StandardROIHeads, CascadeROIHeads, Res5ROIHeads)]
    if type(model) not in (GeneralizedRCNN, PanopticFPN) or tuple(parts) not in known:
        raise UsageError(
            "the analysis knows GeneralizedRCNN and PanopticFPN with RPN and StandardROIHeads, "
            "CascadeROIHeads or Res5ROIHeads, and RetinaNet, "
            f"got {type(model).__name__} with {' and '.join(p.__name__ for p in parts)}"
        )


def _forward(model: GeneralizedRCNN | RetinaNet, image: Tensor, boxes: int, objects: int) -> None:
    """Run every layer of a detector.

    Args:
        boxes: number of RoIs of the box head.
        objects: number of RoIs of the mask and keypoint heads.

    RoIAlign's output is replaced by empty tensors: it has no multiply-adds and saves boxes only.
    """
    features = model.backbone(image)
    if isinstance(model, RetinaNet):
        model.head([features[f] for f in model.head_in_features])
        return
    if isinstance(model, PanopticFPN):
        model.sem_seg_head.layers(features)
    rpn, heads = model.proposal_generator, model.roi_heads
    rpn.rpn_head([features[f] for f in rpn.in_features])

    def pooled(pooler: ROIPooler, names: list[str], count: int) -> Tensor:
        feature = features[names[0]]
        rois = feature.new_empty(count, feature.shape[1], *pooler.output_size)
        return rois.requires_grad_(feature.requires_grad)

    if isinstance(heads, Res5ROIHeads):
        x = heads.res5(pooled(heads.pooler, heads.in_features, boxes))
        heads.box_predictor(x.mean(dim=[2, 3]))
        if heads.mask_on and model.training:  # the same features
            heads.mask_head.layers(x[:objects])
        elif heads.mask_on:  # pooled again, at the detections
            heads.mask_head.layers(heads.res5(pooled(heads.pooler, heads.in_features, objects)))
        return
    box_heads, box_predictors = heads.box_head, heads.box_predictor
    if not isinstance(heads, CascadeROIHeads):  # one stage
        box_heads, box_predictors = [box_heads], [box_predictors]
    for box_head, box_predictor in zip(box_heads, box_predictors, strict=True):
        box_predictor(box_head(pooled(heads.box_pooler, heads.box_in_features, boxes)))
    if heads.mask_on:
        heads.mask_head.layers(pooled(heads.mask_pooler, heads.mask_in_features, objects))
    if heads.keypoint_on:
        rois = pooled(heads.keypoint_pooler, heads.keypoint_in_features, objects)
        heads.keypoint_head.layers(rois)


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
