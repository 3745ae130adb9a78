"""Converts weights of other projects to this package's names, with a config that computes the same.

Conversions that are known to be inexact are refused. Properties that tensors do not show must be
given as arguments.
"""

from .block import convert_block
from .files import read_tensors
from .model import Converted, convert
from .sources import SOURCES
from .video import convert_video
from .video_sources import VIDEO_SOURCES

__all__ = [
    "SOURCES",
    "VIDEO_SOURCES",
    "Converted",
    "convert",
    "convert_block",
    "convert_video",
    "read_tensors",
]
