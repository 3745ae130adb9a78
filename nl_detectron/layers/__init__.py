"""The non-local operation and block: torch and ``detectron2.layers``, nothing else."""

from .nonlocal_block import NORMS, SUBSAMPLES, NonLocalBlock
from .pairwise import PAIRWISE, build_pairwise

__all__ = ["NORMS", "PAIRWISE", "SUBSAMPLES", "NonLocalBlock", "build_pairwise"]
