"""The non-local operation and block. Imports torch and ``detectron2.layers`` only."""

from .nonlocal_block import NORMS, SUBSAMPLES, NonLocalBlock
from .pairwise import PAIRWISE, Pairwise, build_pairwise

__all__ = ["NORMS", "PAIRWISE", "SUBSAMPLES", "NonLocalBlock", "Pairwise", "build_pairwise"]
