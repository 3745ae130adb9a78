"""Convs over time and space with the norms of Detectron2."""

from detectron2.layers import Conv2d
from torch import Tensor, nn


class Conv3d(nn.Conv3d):
    """A conv of a clip (B,C,T,H,W), followed by a norm.

    It is Detectron2's ``Conv2d`` wrapper with a dimension more: the norm is its child ``norm``, so
    that tensors have the same names.

    Args:
        norm: one of Detectron2's norms for images, or None.
        args, kwargs: those of ``torch.nn.Conv3d``.
    """

    def __init__(self, *args, norm: nn.Module | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = super().forward(x)
        return x if self.norm is None else normalize_clip(self.norm, x)


def normalize_clip(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm for images to a clip (B,C,T,H,W), whose positions become one row.

    Batch norms, frozen or not, and group norms then compute what their 3-D counterparts do.
    """
    return norm(x.flatten(2).unsqueeze(2)).reshape(x.shape)


def add_time(conv: Conv2d, kernel: int = 1, stride: int = 1) -> Conv3d:
    """Make a conv over time of Detectron2's conv for images, with the same norm.

    Args:
        conv: a conv without a bias, k x k.
        kernel: t, frames of the kernel t x k x k. A t of 1 keeps the weights. The planes of a
            longer one all start as the k x k kernel divided by t, so that a clip of one repeated
            image has the image's output.
        stride: in frames.
    """
    made = Conv3d(
        conv.in_channels,
        conv.out_channels,
        (kernel, *conv.kernel_size),
        (stride, *conv.stride),
        (kernel // 2, *conv.padding),
        (1, *conv.dilation),
        conv.groups,
        bias=False,
        norm=conv.norm,
        device="meta",  # no random weights, which would be replaced
    )
    made.weight = nn.Parameter(inflate(conv.weight.detach(), kernel))
    return made


def inflate(weight: Tensor, kernel: int) -> Tensor:
    """Repeat a 2-D kernel (O,I,k,k) in t planes and divide by t: (O,I,t,k,k) (Sec. 4, I3D)."""
    return weight.unsqueeze(2).repeat(1, 1, kernel, 1, 1) / kernel
