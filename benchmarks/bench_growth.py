"""Time and memory of each pairwise form against the number of positions, forward and unpooled.

Each point is measured in a fresh process.
"""

from collections.abc import Iterator

import torch

from nl_detectron.layers import PAIRWISE, build_pairwise

from . import fresh
from .cases import DEVICE
from .timing import Budget, Call, spread

POSITIONS = (2100, 4200, 8400, 16800, 33600, 67200)
QUICK = (64, 128, 256)
CHANNELS = 256  # D and E
DENSE_UP_TO = 16800  # positions; beyond, dense sums take too much memory and time
BUDGET = Budget(seconds=1.0)


def records(quick: bool) -> Iterator[dict]:
    for positions in QUICK if quick else POSITIONS:
        for form in PAIRWISE:
            for way in ("forward", "dense") if positions <= DENSE_UP_TO else ("forward",):
                case = {"form": form, "positions": positions, "channels": CHANNELS}
                measured = fresh.measure(__name__, way, case, BUDGET)
                yield {
                    "case": {**case, "way": way},
                    "turns": len(measured["seconds"]),
                    "seconds": spread(measured["seconds"]),
                    "peak_bytes": measured["peak_bytes"],
                }


def build(way: str, *, form: str, positions: int, channels: int) -> Call:
    torch.manual_seed(0)
    pairwise = build_pairwise(form, channels).to(DEVICE)
    std = channels**-0.25 if form == "gaussian" else 1.0
    theta, phi = (
        std * torch.randn(1, positions, c, device=DEVICE) for c in (channels, pairwise.phi_channels)
    )
    g = torch.randn(1, positions, channels, device=DEVICE)
    compute = getattr(pairwise, way)

    def forward():
        with torch.no_grad():
            return (compute(theta, phi, g),)

    return forward


def small(case: dict) -> dict:
    return {**case, "positions": 16}
