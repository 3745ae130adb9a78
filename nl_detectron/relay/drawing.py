"""Parts of relay images: noise, outlines, textures. Angles are in radians from the vertical."""

import cv2
import numpy as np

SHAPES = ("bar", "diamond", "ellipse")
TEXTURES = ("dark", "light", "checks", "stripes across", "stripes along")
CHECK = 8  # pixels of a check or stripe: finer ones a ResNet's stem does not pass on
SLIM, STOUT = (0.3, 0.45), (0.6, 0.8)  # an outline's width over its length


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Grey noise, coarse and fine, (height, width, 1) repeated to three equal channels."""
    coarse = cv2.resize(rng.normal(0, 18, size=(height // 16, width // 16)), (width, height))
    return np.repeat((120 + coarse + rng.normal(0, 10, size=(height, width)))[..., None], 3, axis=2)


def outline(
    rng: np.random.Generator, height: float, build: tuple[float, float] = SLIM
) -> tuple[np.ndarray, float, float]:
    """A random shape around (0, 0): its outline (P, 2), angle and length.

    Args:
        height: of the space that it has to fit into.
        build: range of its width over its length.
    """
    shape = rng.choice(SHAPES)
    length = height * rng.uniform(0.53, 0.7)
    width = length * rng.uniform(*build)
    angle = rng.uniform(-np.pi / 3, np.pi / 3)
    across, along = {
        "bar": ([-1, 1, 1, -1], [-1, -1, 1, 1]),
        "diamond": ([0, 1, 0, -1], [-1, 0, 1, 0]),
        "ellipse": (
            np.cos(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
            np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
        ),
    }[shape]
    local = np.stack([np.multiply(across, width / 2), np.multiply(along, length / 2)], axis=1)
    return local @ turn(angle), angle, length


def turn(angle: float) -> np.ndarray:
    """The (2, 2) matrix of a rotation, as the right factor of points (P, 2)."""
    return np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])


def fill(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """Share of each pixel that an outline (P, 2) covers, 0 to 1, (height, width, 1)."""
    shift = 4  # fractional bits of cv2's coordinates; its pixel centres are whole numbers
    mask = np.zeros((height, width), dtype=np.uint8)
    points = np.round((outline - 0.5) * 2**shift).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=shift)
    return mask[..., None] / 255.0


def paint(image: np.ndarray, outline: np.ndarray, value: np.ndarray | float) -> None:
    """Fill an outline in an image (height, width, 3), in place; some of the noise shows through."""
    image += fill(outline, *image.shape[:2]) * (value - image) * 0.9


def texture(rng: np.random.Generator, name: str, height: int, width: int) -> np.ndarray:
    """A texture by its name in TEXTURES: 0 where dark, 1 where light, (height, width, 1).

    Checks and stripes begin at a random offset.
    """
    top, left = rng.integers(0, 2 * CHECK, size=2)
    y, x = np.ogrid[top : top + height, left : left + width]
    light = {
        "dark": 0,
        "light": 1,
        "checks": (y // CHECK + x // CHECK) % 2,
        "stripes across": y // CHECK % 2,
        "stripes along": x // CHECK % 2,
    }[name]
    return np.broadcast_to(light, (height, width))[..., None]
