"""How far a ResNet's convolutions can see: the baseline's theoretical receptive field."""

from collections.abc import Iterator

from detectron2.modeling import ResNet
from torch import nn

POOL = (3, 2, 1)  # kernel, stride, dilation of the stem's max pool


def receptive_fields(resnet: ResNet) -> dict[str, int]:
    """Pixels a side that one position of each stage's output depends on.

    A kernel of k positions, ``step`` pixels apart, adds (k - 1) step pixels; a stride multiplies
    the step.
    """
    size, step, fields = 1, 1, {}
    stages = {"stem": resnet.stem, **dict(zip(resnet.stage_names, resnet.stages, strict=True))}
    for name, stage in stages.items():
        windows = [*_convs(stage), *([POOL] if name == "stem" else [])]
        for kernel, stride, dilation in windows:
            size += (kernel - 1) * dilation * step
            step *= stride
        fields[name] = size
    return fields


def _convs(stage: nn.Module) -> Iterator[tuple[int, int, int]]:
    """Kernel, stride and dilation along the longest path: shortcuts have 1x1 kernels."""
    for name, module in stage.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith("shortcut"):
            yield module.kernel_size[1], module.stride[1], module.dilation[1]
