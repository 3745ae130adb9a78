"""The theoretical receptive field of a ResNet's convolutions."""

from collections.abc import Iterator

from detectron2.modeling import ResNet
from torch import nn

POOL = (3, 2, 1)  # kernel, stride, dilation of the stem's max pool


def receptive_fields(resnet: ResNet) -> dict[str, int]:
    """Side in pixels of the receptive field of one output position, by stage.

    A kernel of k positions that are ``step`` pixels apart adds (k - 1) * step pixels; a stride
    multiplies the step.
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
    """Kernel, stride and dilation of each conv on the longest path, so without shortcuts (1x1)."""
    for name, module in stage.named_modules():
        if isinstance(module, nn.Conv2d) and not name.endswith("shortcut"):
            yield module.kernel_size[1], module.stride[1], module.dilation[1]
