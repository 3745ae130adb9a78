"""Data sets: a user's own in COCO's format, and the synthetic relay task, written in it too."""

from .coco_dataset import CocoDataset
from .relay import RELAY_DATASETS, Relay, register_relay

__all__ = ["RELAY_DATASETS", "CocoDataset", "Relay", "register_relay"]
