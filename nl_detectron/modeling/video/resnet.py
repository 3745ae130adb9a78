"""C2D and I3D ResNets (Table 1 and Sec. 4), made of Detectron2's residual blocks for images.

A tensor has the name that it has in Detectron2's ResNet: ``res2.0.conv1.weight``.
"""

from typing import NamedTuple

from detectron2.layers import CNNBlockBase
from detectron2.modeling import ResNet
from detectron2.modeling.backbone import BasicStem, BottleneckBlock
from torch import Tensor, nn
from torch.nn import functional as F

from .conv3d import add_time

# residual blocks of res2 to res5
DEPTHS = {26: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
# frames of the kernels of the stem, and of a residual block's first 1x1 and its 3x3 conv
ARCHITECTURES = {"c2d": (1, 1, 1), "i3d_3x1x1": (5, 3, 1), "i3d_3x3x3": (5, 1, 3)}
Sizes = tuple[int, int, int]  # over (T,H,W)


class Pools(NamedTuple):
    """What is done in time outside of convs.

    Attributes:
        conv1: stride of the stem's conv, in frames.
        pool1: kernel, stride and padding of the stem's max pool.
        pool2: those of the max pool after res2.
    """

    conv1: int
    pool1: tuple[Sizes, Sizes, Sizes]
    pool2: tuple[Sizes, Sizes, Sizes]


# strides in time of conv1, pool1 and pool2, by MODEL.VIDEO.STRIDES
STRIDES = {"paper": (2, 2, 2), "8x8": (1, 1, 2), "none": (1, 1, 1)}
# frames that pool1's and pool2's kernels have with a stride of 2, and the padding of pool1 in space
# and of both in time, by MODEL.VIDEO.POOL1
KERNELS = {"text": (3, 3, 1, 1), "released": (2, 2, 0, 0), "slowfast": (1, 2, 1, 0)}


def _make_pools(strides: str, pool1: str) -> Pools:
    conv, first, second = STRIDES[strides]
    first_frames, second_frames, in_space, in_time = KERNELS[pool1]

    def pool(stride: int, frames: int, side: int) -> tuple[Sizes, Sizes, Sizes]:
        kernel, padding = (frames, in_time) if stride == 2 else (1, 0)
        step, margin = (2, in_space) if side > 1 else (1, 0)
        return (kernel, side, side), (stride, step, step), (padding, margin, margin)

    return Pools(conv, pool(first, first_frames, 3), pool(second, second_frames, 1))


# by MODEL.VIDEO.STRIDES and MODEL.VIDEO.POOL1
POOLS = {(strides, pool1): _make_pools(strides, pool1) for strides in STRIDES for pool1 in KERNELS}


class VideoStem(CNNBlockBase):
    """Detectron2's stem over time: 7x7 conv, norm, ReLU and max pool.

    Args:
        stem: the stem for images.
        kernel: frames of the conv's kernel.
        pools: stride of the conv and the pool.
    """

    def __init__(self, stem: BasicStem, kernel: int, pools: Pools):
        super().__init__(stem.in_channels, stem.out_channels, stem.stride)
        self.conv1 = add_time(stem.conv1, kernel, pools.conv1)
        self.pool1 = nn.MaxPool3d(*pools.pool1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute (B,C,T',H/4,W/4) from a clip (B,3,T,H,W)."""
        return self.pool1(F.relu_(self.conv1(x)))


class VideoBottleneckBlock(BottleneckBlock):
    """Detectron2's bottleneck block over time, on clips (B,C,T,H,W).

    Args:
        frames: of the kernels of the first 1x1 conv and of the 3x3 conv.
        args, kwargs: those of ``BottleneckBlock``.
    """

    def __init__(self, *args, frames: tuple[int, int] = (1, 1), **kwargs):
        super().__init__(*args, **kwargs)
        kernels = {"conv1": frames[0], "conv2": frames[1], "conv3": 1, "shortcut": 1}
        for name, kernel in kernels.items():
            if (conv := getattr(self, name)) is not None:
                setattr(self, name, add_time(conv, kernel))


class VideoResNet(ResNet):
    """Detectron2's ``ResNet`` on clips, with a max pool over time after res2 (Table 1).

    Args:
        stem: a stem that takes clips.
        stages: residual blocks of each stage.
        pools: the pool after res2.
        kwargs: those of ``ResNet``.
    """

    def __init__(self, stem: VideoStem, stages: list[list[CNNBlockBase]], pools: Pools, **kwargs):
        super().__init__(stem, stages, **kwargs)
        self.pool2 = nn.MaxPool3d(*pools.pool2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Compute the features of OUT_FEATURES, (B,C,T',H',W') each, from clips (B,3,T,H,W).

        The feature ``res2`` is the one before the pool.

        Raises:
            ValueError: x has another shape.
        """
        if x.dim() != 5 or x.shape[1] != self.stem.in_channels:
            raise ValueError(
                f"expected clips of shape (B,{self.stem.in_channels},T,H,W), got {tuple(x.shape)}"
            )
        outputs = {}
        x = self.stem(x)
        if "stem" in self._out_features:
            outputs["stem"] = x
        for name, stage in zip(self.stage_names, self.stages, strict=True):
            x = stage(x)
            if name in self._out_features:
                outputs[name] = x
            if name == "res2":
                x = self.pool2(x)
        return outputs


def inflated_blocks(stage: int, count: int) -> list[bool]:
    """Which of a stage's residual blocks have a kernel in time, in an I3D.

    The paper's text says one kernel of every two blocks. The released code has: all of res2, those
    with an even number of res3 and res4, those with an odd number of res5, counted from 0. These
    are the ones.
    """
    return [stage == 2 or number % 2 == (stage == 5) for number in range(count)]
