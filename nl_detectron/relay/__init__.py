"""The relay data sets: the class of an object is shown only at the other end of the image.

A grey object lies on grey noise at one end of a long image; a coloured signal patch lies in the
opposite corner. Its colour is the object's class (or, in the keypoint variant, which end is the
object's head), and nothing else shows it. A detector must carry information across the image.
Variants have the signal nearer, on the object itself, or several objects each with its own.

Units in all modules: pixels; x to the right, y down.
"""

from .files import cache_folder, write_dataset
from .registration import RELAY_DATASETS, register_relay, register_split
from .scenes import draw_image
from .spec import SPLITS, Relay

__all__ = [
    "RELAY_DATASETS",
    "SPLITS",
    "Relay",
    "cache_folder",
    "draw_image",
    "register_relay",
    "register_split",
    "write_dataset",
]
