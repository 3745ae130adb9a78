"""Data sets: the synthetic relay task, written in COCO's format."""

from .relay import RELAY_DATASETS, Relay, register_relay

__all__ = ["RELAY_DATASETS", "Relay", "register_relay"]
