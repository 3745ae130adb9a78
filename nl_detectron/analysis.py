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
from detectron2.modeling import Backbone
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode, bmm_flop, sdpa_flop_count

from .analysis_layers import check_kind, run_layers
from .config import is_video
from .engine import build_on_meta
from .errors import UsageError
from .layers.choice import Sizes
from .modeling import find_blocks

SMALLEST = 32  # pixels per side; smaller images leave no positions in res5


@dataclass(frozen=True)
class Figures:
    """Figures of a block or a model, on one image or clip.

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
    """Figures of a whole model and of each of its non-local blocks.

    Attributes:
        figures, blocks: the figures.
        size: of what they are counted on: H, W of an image, or T, H, W of a clip.
    """

    figures: Figures
    blocks: list[BlockAnalysis]
    size: tuple[int, ...]


def default_size(cfg: CfgNode) -> tuple[int, int]:
    """Height and width in pixels that a model is usually counted at: 800 x 1344, and for a video
    model the crop that it is trained on, as in published figures."""
    return (cfg.INPUT.VIDEO.CROP_SIZE,) * 2 if is_video(cfg) else (800, 1344)


def analyze(
    cfg: CfgNode, height: int | None = None, width: int | None = None, device: str = "cpu"
) -> Analysis:
    """Count the figures of a config's model on one image, or one clip of INPUT.VIDEO.FRAMES frames,
    without weights and without computing.

    The number of boxes that a detector finds depends on its weights and the image. Here the heads
    get the largest possible number: in inference POST_NMS_TOPK_TEST proposals, and
    DETECTIONS_PER_IMAGE of them with a mask or keypoints; in training BATCH_SIZE_PER_IMAGE, of
    which POSITIVE_FRACTION are objects. A model and its baseline thus differ by their blocks only.
    Losses and the selection of proposals and detections are not counted.

    Args:
        cfg: config of the model.
        height, width: image size in pixels, padded to the backbone's ``size_divisibility``; by
            default that of :func:`default_size`.
        device: cpu or cuda. It decides how sums are computed and thus what is kept for the backward
            pass. With cuda, no GPU is needed from torch 2.14 on.

    Raises:
        UsageError: the config describes no model, or another one than Faster, Mask, Keypoint or
            Cascade R-CNN, Panoptic FPN, RetinaNet or VideoClassifier, the image is too small, or
            this torch needs a GPU for the device.
    """
    if height is None or width is None:
        height, width = default_size(cfg)
    if device == "cuda" and not knows_fake_cuda():
        raise UsageError(
            f"device cuda: torch {torch.__version__} counts for a GPU only where it sees one; use "
            "torch 2.14 or newer, or device cpu"
        )
    if min(height, width) < SMALLEST:
        raise UsageError(
            f"image: expected at least {SMALLEST} pixels per side, got {height} x {width}"
        )
    frames = (cfg.INPUT.VIDEO.FRAMES,) if is_video(cfg) else ()
    model = build_on_meta(cfg)
    check_kind(model)
    tested = cfg.MODEL.RPN.POST_NMS_TOPK_TEST, cfg.TEST.DETECTIONS_PER_IMAGE
    trained = cfg.MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE
    objects = int(trained * cfg.MODEL.ROI_HEADS.POSITIVE_FRACTION)
    # the non-fake inputs are those on the meta device, which are moved to ``device``
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device=device)
        impls = _watch_impls(model)
        unit = cast(Backbone, model.backbone).size_divisibility or 1
        padded = (-(-side // unit) * unit for side in (height, width))
        image = torch.empty(1, 3, *frames, *padded, device=device)
        try:
            with torch.no_grad(), count_flops() as total, FusedAttention(device):
                flops = _by_block(model, total, lambda: run_layers(model.eval(), image, *tested))
            with count_saved(model) as total, FusedAttention(device):
                saved = _by_block(
                    model, total, lambda: run_layers(model.train(), image, trained, objects)
                )
        except ValueError as error:  # a block has too few positions
            what = f"clip of {frames[0]} frames" if frames else "image"
            raise UsageError(f"{what} of {height} x {width}: {error}") from error
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
    return Analysis(figures[""], blocks, (*frames, height, width))


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
            saves, bias = torch.is_grad_enabled(), kwargs.pop("attn_mask", None)
            return attend(*args, bias, compute_log_sumexp=saves, **kwargs)[0]
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
            theta, _, g, _ = args
            fused = pairwise.prefers_fused(Sizes.of(theta, g))
            impls[name] = "fused" if fused else "dense"

        block.pairwise.register_forward_pre_hook(note)
    return impls


def _parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())
