"""Attention of non-local blocks: which positions they weight, on any image or clip and trained
model."""

from .capture import capture_attention, record_attention
from .clips import ClipAttention, ClipRecord, record_clip
from .geometry import Grid
from .metrics import area_share, mask_positions, mean_distance, share, strongest
from .record import Attention, AttentionRecord, Summary, forms_of

__all__ = [
    "Attention",
    "AttentionRecord",
    "ClipAttention",
    "ClipRecord",
    "Grid",
    "Summary",
    "area_share",
    "capture_attention",
    "forms_of",
    "mask_positions",
    "mean_distance",
    "record_attention",
    "record_clip",
    "share",
    "strongest",
]
