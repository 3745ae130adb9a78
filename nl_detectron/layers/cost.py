"""What a way to a non-local sum costs: multiply-adds in matrix products, and passes over memory."""

from typing import NamedTuple

# An element read or written outside a matrix product takes as long as this many multiply-adds
# inside one (benchmarks/README.md says how it was measured).
PASS = 40

# Weights of more pairs than these (32 MiB in float32) are not made at once, however cheap they
# look: no cache holds them, and the C library fetches such memory from the system each time.
MOST_PAIRS = 2**23

# The softmax forms' pieces of weights on the CPU, and what is kept of them for the backward pass
# (256 MiB): less for the cache would make the matrix products small and slow.
PAIRS_AT_A_TIME = MOST_PAIRS
KEPT_PAIRS = 2**26


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
