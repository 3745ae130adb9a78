"""Where non-local blocks look: on any image, of any trained model."""

from .grid import Grid
from .measure import area_share, mean_distance, share, strongest, without
from .view import Attention, Summary, View, capture_attention, look

__all__ = [
    "Attention",
    "Grid",
    "Summary",
    "View",
    "area_share",
    "capture_attention",
    "look",
    "mean_distance",
    "share",
    "strongest",
    "without",
]
