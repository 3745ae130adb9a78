"""Pictures of spacetime relay videos."""

from typing import NamedTuple

import numpy as np

from .spec import COLOURS, SHAPES, SPLITS, VideoRelay

NOISE, GREY = 12, 110  # standard deviation and mean of the background
WHITE = 235


class Clip(NamedTuple):
    """A video of the data set.

    Attributes:
        frames: RGB uint8 (pictures, size, size, 3).
        label: number of its class.
        patch, shape: numbers of the pictures that show them.
    """

    frames: np.ndarray
    label: int
    patch: int
    shape: int


def draw_clip(relay: VideoRelay, split: str, number: int) -> Clip:
    """Draw one video, which depends on the seed, the split and its number alone."""
    rng = np.random.default_rng([relay.seed, SPLITS.index(split), number])
    size, colour, shape = relay.size, int(rng.integers(2)), int(rng.integers(len(SHAPES)))
    patch_at, shape_at = _two_times(relay, rng)
    frames = np.full((relay.pictures, size, size, 3), GREY, dtype=np.float64)
    frames += rng.normal(0, NOISE, size=(relay.pictures, size, size, 1))
    y, x = _corner(relay, rng, relay.patch)
    frames[patch_at, y : y + relay.patch, x : x + relay.patch] = list(COLOURS.values())[colour]
    y, x = _corner(relay, rng, relay.shape)
    mask = _mask(SHAPES[shape], relay.shape)
    frames[shape_at, y : y + relay.shape, x : x + relay.shape][mask] = WHITE
    frames += rng.normal(0, NOISE / 3, size=frames.shape[:3])[..., None]
    pixels = frames.clip(0, 255).astype(np.uint8)
    return Clip(pixels, (shape + colour) % len(SHAPES), patch_at, shape_at)


def _two_times(relay: VideoRelay, rng: np.random.Generator) -> tuple[int, int]:
    """The pictures of patch and shape, either one first."""
    last = relay.farthest or relay.pictures - 1
    pairs = [
        (i, j)
        for i in range(relay.pictures)
        for j in range(relay.pictures)
        if relay.gap <= abs(i - j) <= last
    ]
    return pairs[rng.integers(len(pairs))]


def _corner(relay: VideoRelay, rng: np.random.Generator, side: int) -> tuple[int, int]:
    y, x = rng.integers(relay.margin, relay.size - relay.margin - side + 1, size=2)
    return int(y), int(x)


def _mask(name: str, side: int) -> np.ndarray:
    """Pixels of a shape, booleans (side, side); they are the same in a mirror."""
    mask, third = np.zeros((side, side), dtype=bool), side // 3
    if name == "square":
        mask[1:-1, 1:-1] = True
        mask[third:-third, third:-third] = (
            False  # a frame, so that it is no brighter than the others
        )
    elif name == "disc":
        from_centre = np.arange(side) - (side - 1) / 2
        mask = np.hypot(*np.meshgrid(from_centre, from_centre)) < side / 2 - 1
    else:
        mask[third:-third] = True
        mask[:, third:-third] = True
    return mask
