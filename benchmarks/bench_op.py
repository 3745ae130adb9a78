"""The sum alone: ``Pairwise.forward``, which may use a fused sum, against ``Pairwise.dense``."""

from collections.abc import Iterator

import torch

from nl_detectron.layers import PAIRWISE, build_pairwise
from nl_detectron.layers.choice import Sizes

from . import cases, fresh
from .cases import DEVICE, small  # noqa: F401
from .comparison import compare
from .timing import Call

WAYS = ("dense", "forward")
MATRICES = {False: 3, True: 6}  # (N,M) matrices that dense holds at a time, by whether it trains


def records(quick: bool) -> Iterator[dict]:
    for case in cases.all_cases(tuple(PAIRWISE), quick):
        record = compare(__name__, case, WAYS, cases.budget(case))
        chosen = build_pairwise(case["form"], sizes(case).d).prefers_fused(sizes(case))
        yield {**record, "takes": "fused" if chosen else "dense"}


def sizes(case: dict) -> Sizes:
    """Sizes of the sum. gaussian compares x itself, with all its channels."""
    channels, (n, m) = case["channels"], cases.positions(case)
    d = channels if case["form"] == "gaussian" else channels // 2
    return Sizes(case["images"], n, d, m, channels // 2, DEVICE)


def build(way: str, **case) -> Call:
    s = sizes(case)
    torch.manual_seed(0)
    pairwise = build_pairwise(case["form"], s.d).to(DEVICE)
    # Exponents get a variance of 1, so that the softmax is not all in one position.
    std = s.d**-0.25 if case["form"] == "gaussian" else 1.0
    shapes = (s.b, s.n, s.d), (s.b, s.m, pairwise.phi_channels)
    theta, phi = (std * torch.randn(shape, device=DEVICE) for shape in shapes)
    g, dy = (torch.randn(s.b, rows, s.e, device=DEVICE) for rows in (s.m, s.n))
    compute = getattr(pairwise, way)

    def forward():
        with torch.no_grad(), cases.precision(case):
            return (compute(theta, phi, g),)

    def train():
        with cases.precision(case):
            y = compute(theta, phi, g)
        grads = torch.autograd.grad(y, wanted, dy, allow_unused=True)
        return (y.detach(), *(grad for grad in grads if grad is not None))

    if not cases.trains(case):
        return forward
    wanted = [t.requires_grad_() for t in (theta, phi, g)] + list(pairwise.parameters())
    return train


def refuse(way: str, case: dict) -> str:
    matrices = MATRICES[cases.trains(case)] if way == "dense" else 0
    return fresh.too_large(4 * cases.pairs(case) * matrices)
