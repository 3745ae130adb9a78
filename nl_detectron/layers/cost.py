"""What a way to a non-local sum costs: multiply-adds in matrix products, and passes over memory."""

from typing import NamedTuple

# An element read or written outside a matrix product takes as long as this many multiply-adds
# inside one (benchmarks/README.md says how it was measured).
PASS = 40

# Weights of more pairs than these (256 MiB in float32) are not made, however fast.
MOST_PAIRS = 2**26

# Fused attention on a CPU takes queries in tiles of 256 from this many on, and in smaller and
# slower ones below.
TILED_WELL = 768


class Sizes(NamedTuple):
    """Of one sum, and where it is done.

    B images, N positions i, D channels of theta, M positions j, E channels of g.
    """

    b: int
    n: int
    d: int
    m: int
    e: int
    device: str = "cpu"

    @property
    def pairs(self) -> int:
        return self.b * self.n * self.m


class Cost(NamedTuple):
    """Multiply-adds in matrix products, and elements passed through memory outside of them."""

    macs: float
    passed: float

    @property
    def total(self) -> float:
        return self.macs + PASS * self.passed
