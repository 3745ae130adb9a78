"""Weights from elsewhere into the names here, and the config words that make them compute the same.

What is known not to be exact is refused, and what tensors do not show is asked for.
"""

from .block import convert_block
from .files import read_tensors
from .model import Converted, convert
from .sources import SOURCES

__all__ = ["SOURCES", "Converted", "convert", "convert_block", "read_tensors"]
