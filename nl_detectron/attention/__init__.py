"""Attention of non-local blocks: which positions they weight, on any image or clip and trained
model."""

from .capture import capture_attention, record_attention
from .clips import ClipAttention, ClipRecord, record_clip
from .geometry import Grid
from .metrics import (
    above_uniform,
    area_share,
    is_flat,
    mask_positions,
    mean_distance,
    peak,
    share,
    strongest,
)
from .record import Attention, AttentionRecord, Summary, forms_of, is_untrained

__all__ = [
    "Attention",
    "AttentionRecord",
    "ClipAttention",
    "ClipRecord",
    "Grid",
    "Summary",
    "above_uniform",
    "area_share",
    "capture_attention",
    "forms_of",
    "is_flat",
    "is_untrained",
    "mask_positions",
    "mean_distance",
    "peak",
    "record_attention",
    "record_clip",
    "share",
    "strongest",
]
