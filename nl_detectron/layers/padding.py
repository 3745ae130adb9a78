"""The images of a padded batch without their padding."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import CHANNELS_LAST, to_channels_last


def crop(image: Tensor, size: Sequence[int]) -> Tensor:
    """The first positions of an image (1,C,S) along each dimension of S, a view."""
    for dim, side in enumerate(size, start=2):
        image = image.narrow(dim, 0, side)
    return image


def split_images(x: Tensor, sizes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Split x (B,C,S) into its images without padding, (1,C,...) each, in the layout of x.

    Args:
        x: images that are padded behind their last positions.
        sizes: the size of each image in positions, without padding, along the dimensions of S.
    """
    channels_last = CHANNELS_LAST.get(x.dim(), torch.contiguous_format)
    dense = to_channels_last if x.is_contiguous(memory_format=channels_last) else Tensor.contiguous
    return [dense(crop(image, size)) for image, size in zip(x.split(1), sizes, strict=True)]


def join_images(images: Sequence[Tensor], space: Sequence[int]) -> Tensor:
    """Pad images (1,C,...) with zeros to the size ``space`` and join them, (B,C,S)."""
    padded = []
    for image in images:
        missing = [side - own for side, own in zip(space, image.shape[2:], strict=True)]
        # F.pad takes the last dimension first
        padded.append(F.pad(image, [n for behind in reversed(missing) for n in (0, behind)]))
    return torch.cat(padded)
