"""A user's own data sets in COCO's format."""

from .coco_dataset import CocoDataset

__all__ = ["CocoDataset"]
