"""Where non-local blocks look: on any image, of any trained model."""

from .grid import Grid
from .looking import capture_attention, look
from .measure import area_share, mean_distance, share, strongest, without
from .view import Attention, Summary, View, forms_of

__all__ = [
    "Attention",
    "Grid",
    "Summary",
    "View",
    "area_share",
    "capture_attention",
    "forms_of",
    "look",
    "mean_distance",
    "share",
    "strongest",
    "without",
]
