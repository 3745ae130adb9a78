"""The images of a padded batch without their padding."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .layout import CHANNELS_LAST, to_channels_last, to_float32


class ValidPositions:
    """The positions of a batch of padded images that are no padding.

    Masks are made on the CPU and sent to a GPU without waiting for it. Axes: B images, N positions
    with the padding, n those of an image without it.

    Args:
        sizes: the size of each image in positions, which lie before those of its padding.
        space: the size that the images are padded to.
        device: device of the masks.
    """

    def __init__(self, sizes: Sequence[Sequence[int]], space: Sequence[int], device: torch.device):
        self.sizes, self.space, self.device = sizes, space, device
        self._padding: Tensor | None = None

    @property
    def padding(self) -> Tensor:
        """Whether a position is padding, (B,N)."""
        if self._padding is None:  # torch.compile takes no functools.cached_property
            self._padding = self._to_device(~self._valid)
        return self._padding

    @property
    def _valid(self) -> Tensor:
        """Whether a position is not padding, (B,N), on the CPU."""
        valid = torch.ones(len(self.sizes), 1, dtype=torch.bool, device="cpu")
        for side, lengths in zip(self.space, zip(*self.sizes, strict=True), strict=True):
            places = torch.arange(side, device="cpu")
            along = torch.stack([places < length for length in lengths])
            valid = (valid[:, :, None] & along[:, None]).flatten(1)
        return valid

    def factors(self, like: Tensor) -> Tensor:
        """N / n at the image's valid positions, 0 in the padding, (B,N,1): a mean over N positions
        of rows times these is one over the n."""
        valid = self._valid.double()
        factors = valid * (valid.shape[1] / valid.sum(dim=1, keepdim=True))
        return self._to_device(factors[..., None].to(like.dtype))

    def mean(self, rows: Tensor) -> Tensor:
        """Mean over the image's valid positions of rows (B,N,C), (B,1,C)."""
        with torch.autocast(rows.device.type, enabled=False):
            wide = to_float32(rows)
            valid = self._to_device(self._valid[:, None].to(wide.dtype))
            return (valid @ wide / valid.sum(dim=2, keepdim=True)).to(rows.dtype)

    def _to_device(self, mask: Tensor) -> Tensor:
        return mask.to(self.device, non_blocking=True)


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
