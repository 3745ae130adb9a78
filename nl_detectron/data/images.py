"""Reads images as Detectron2 does, and also those of more than 8 bits a pixel.

Detectron2 lets Pillow convert them, which clips: nearly all pixels of a 16-bit image become 255.
"""

import logging
from typing import IO, cast

import numpy as np
from detectron2.data.detection_utils import _apply_exif_orientation, convert_PIL_to_numpy
from detectron2.utils.file_io import PathManager
from PIL import Image

DEEP_MODES = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # Pillow's; all have one channel
_reported: set[str] = set()  # the conversions that this process has logged

logger = logging.getLogger(__name__)


def read_image(file_name: str, format: str | None = None) -> np.ndarray:
    """Read an image as Detectron2's ``read_image`` does, and scale one of more than 8 bits.

    16-bit, int32 and float images are scaled to 0 to 255 as :func:`scale_to_8_bits` says, and the
    log has a line for the first one of each type.

    Args:
        file_name: path of the image.
        format: a mode of Pillow, "BGR" or "YUV-BT.601", as in Detectron2.

    Returns:
        Pixels (H,W,C), uint8 from 0 to 255, or float32 for "YUV-BT.601".

    Raises:
        ValueError: a float image has pixels that are not finite.
        Exception: the file is not an image or is damaged; each of Pillow's formats raises its own.
    """
    with cast(IO[bytes], PathManager.open(file_name, "rb")) as file:
        image = _apply_exif_orientation(Image.open(file))
        if image.mode in DEEP_MODES:
            pixels, how = scale_to_8_bits(np.asarray(image), image.mode.startswith("I;16"))
            if how not in _reported:
                _reported.add(how)
                logger.warning("image %s has more than 8 bits a pixel: %s", file_name, how)
            image = Image.fromarray(pixels)
        converted = convert_PIL_to_numpy(image, format)
        # YUV-BT.601 is computed in float64, which no model takes
        return converted.astype(np.float32) if converted.dtype == np.float64 else converted


def read_size(file_name: str) -> tuple[tuple[int, int], bool]:
    """Height and width of an image by its header, turned by its EXIF data; whether it has more
    than 8 bits a pixel."""
    with cast(IO[bytes], PathManager.open(file_name, "rb")) as file:
        image = Image.open(file)
        width, height = image.size
        turned = image.getexif().get(0x0112) in (5, 6, 7, 8)  # Orientation
        return (width, height) if turned else (height, width), image.mode in DEEP_MODES


def scale_to_8_bits(pixels: np.ndarray, is_16_bit: bool) -> tuple[np.ndarray, str]:
    """Scale integers or floats to uint8, and describe the scale.

    Pixels of 16 bits, and integers from 0 to 65535, are divided by 257; floats from 0 to 1 are
    multiplied by 255. All such images have the same scale, so their brightness can be compared.
    An image of int32 or float whose values are from 0 to 255 is kept. In any other image, the
    smallest value becomes 0 and the largest one 255.

    Raises:
        ValueError: some pixels are not finite.
    """
    if not np.isfinite(pixels).all():
        raise ValueError("some pixels are NaN or infinite")
    values = pixels.astype(np.float64)
    low, high = values.min(), values.max()
    integers = not np.issubdtype(pixels.dtype, np.floating)
    if is_16_bit or (integers and low >= 0 and 255 < high <= 65535):
        values, how = values / 257, "divided by 257"
    elif low >= 0 and high <= 1 and not integers:
        values, how = values * 255, "multiplied by 255"
    elif low >= 0 and high <= 255:
        how = "kept, as all values are from 0 to 255"
    else:
        scale = 255 / (high - low) if high > low else 0.0
        values = (values - low) * scale
        how = "scaled from each image's least and largest value"
    return np.round(values).astype(np.uint8), how
