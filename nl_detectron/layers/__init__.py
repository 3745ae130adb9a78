"""The non-local operation and block: torch and ``detectron2.layers``, nothing else."""

from .nonlocal_block import NORMS, SUBSAMPLES, NonLocalBlock
from .pairwise import PAIRWISE, Pairwise, build_pairwise

__all__ = ["NORMS", "PAIRWISE", "SUBSAMPLES", "NonLocalBlock", "Pairwise", "build_pairwise"]
