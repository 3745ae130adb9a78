"""Choice between the dense sum, with all weights in memory, and the fused sum without them.

The choice depends on sizes only, so it needs no device synchronisation.
"""

from typing import NamedTuple

import torch

# Reading or writing an element outside a matrix product takes as long as this many multiply-adds
# inside one, by device. CPU: measured (see benchmarks/README.md). CUDA: the ratio of an H100's
# 67 TFLOP/s in float32 to its 3.35 TB/s. With TF32 and in half precision, matrix products are
# several times faster. This would favour the dense sum more, by less than a factor of two.
PASS = {"cpu": 40, "cuda": 40}

# Weights of more pairs than this (32 MiB in float32) are never computed at once, whatever their
# cost: no cache holds them, and the C library requests such memory from the system each time.
MOST_PAIRS = 2**23

# Pairs in a tile of the softmax functions, and pairs whose weights are kept for the backward pass
# (256 MiB). Smaller tiles would fit the cache better but make the matrix products slow.
TILE_PAIRS = MOST_PAIRS
KEPT_PAIRS = 2**26

# From this many pairs an image, inference on a CPU converts x to channels-last once: each of the
# many tiles multiplies by all of g, which takes 6 % longer if x is contiguous.
ROWS_PAIRS = 2**28

# Inside a block, weights that take fewer multiply-adds an image than this are computed again in
# the backward pass: 0.5 % of a training step of Mask R-CNN R50-FPN on an 800x1344 image, which
# takes 3 x 270 GMACs.
REMADE_MACS = 4e9


class Sizes(NamedTuple):
    """Sizes of one sum, and its device and dtype.

    B images, N positions i, D channels of theta, M positions j, E channels of g.
    """

    b: int
    n: int
    d: int
    m: int
    e: int
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(cls, theta: torch.Tensor, g: torch.Tensor) -> "Sizes":
        """Sizes of the sum for theta (B,N,D) and g (B,M,E)."""
        b, n, d = theta.shape
        m, e = g.shape[1:]
        return cls(b, n, d, m, e, theta.device.type, g.dtype)

    @property
    def pairs(self) -> int:
        return self.b * self.pairs_per_image

    @property
    def pairs_per_image(self) -> int:
        return self.n * self.m


class Cost(NamedTuple):
    """Multiply-adds in matrix products, and elements read or written outside of them."""

    macs: float
    passed: float

    def total(self, device: str) -> float:
        return self.macs + PASS.get(device, PASS["cuda"]) * self.passed


class Rule(NamedTuple):
    """A softmax sum over up to ``pairs`` pairs of positions an image is fused on a GPU.

    The rule applies to embeddings of up to ``channels`` channels in one of ``dtypes``. Fused
    attention has fewer kernels to start, but of more than 256 channels or in float32 it has slow
    ones, which share an image among few multiprocessors.
    """

    channels: float
    dtypes: tuple[torch.dtype, ...]
    pairs: float
    reason: str


HALF = (torch.float16, torch.bfloat16)
SINGLE = (torch.float32, torch.float64)

# The first rule that applies decides. `python -m benchmarks.fused_attention --write` measures the
# limits on this machine's GPU and replaces the lines between the markers.
# begin: rules
RULES = (
    Rule(
        256,
        HALF,
        float("inf"),
        "fused is 2.11 times as fast at 67,108,864 pairs, the most measured, of 256 channels "
        "(NVIDIA H200, torch 2.11.0)",
    ),
    Rule(
        512,
        HALF,
        2**16,
        "fused is 1.24 times as fast at 65,536 and dense is 1.18 times as fast at 262,144 pairs "
        "of 512 channels (NVIDIA H200, torch 2.11.0)",
    ),
    Rule(
        float("inf"),
        HALF,
        2**14,
        "fused is 1.36 times as fast at 16,384 and dense is 1.05 times as fast at 65,536 pairs "
        "of 1024 channels (NVIDIA H200, torch 2.11.0)",
    ),
    Rule(
        128,
        SINGLE,
        2**20,
        "fused is 1.30 times as fast at 1,048,576 and dense is 1.10 times as fast at 4,194,304 "
        "pairs of 128 channels (NVIDIA H200, torch 2.11.0)",
    ),
    Rule(
        256,
        SINGLE,
        2**18,
        "fused is 1.20 times as fast at 262,144 and dense is 1.18 times as fast at 1,048,576 "
        "pairs of 256 channels (NVIDIA H200, torch 2.11.0)",
    ),
    Rule(
        512,
        SINGLE,
        2**16,
        "fused is 1.14 times as fast at 65,536 and dense is 1.29 times as fast at 262,144 pairs "
        "of 512 channels (NVIDIA H200, torch 2.11.0)",
    ),
    Rule(
        float("inf"),
        SINGLE,
        2**14,
        "fused is 1.36 times as fast at 16,384 and dense is 1.27 times as fast at 65,536 pairs "
        "of 1024 channels (NVIDIA H200, torch 2.11.0)",
    ),
)
# end: rules


def prefers_sdpa(s: Sizes) -> bool:
    """Whether a softmax sum uses fused attention: on a GPU, by the first rule that applies."""
    if s.device != "cuda":
        return False
    fitting = (rule for rule in RULES if s.d <= rule.channels and s.dtype in rule.dtypes)
    return s.pairs_per_image <= next(fitting).pairs
