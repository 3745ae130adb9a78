"""Distance from the machine's limit: the same multiply-adds as large square matrix products.

share = seconds of the products / seconds of the form, both in the same turns. The inverse of the
dense sum's share is the largest speed-up that any other way to compute the same products can reach.
"""

from collections.abc import Iterator

import torch

from nl_detectron.layers import build_pairwise

from . import bench_op, cases
from .cases import DEVICE
from .comparison import compare
from .timing import Budget, Call

SQUARE, QUICK_SQUARE = 2048, 64
FORMS = ("gaussian", "embedded_gaussian", "dot_product")
BUDGET = Budget(seconds=4.0, at_least=5)


def records(quick: bool) -> Iterator[dict]:
    square = QUICK_SQUARE if quick else SQUARE
    for case in cases.all_cases(FORMS, quick):
        if case["shape"] != "res4" or case["mode"] not in ("forward", "train"):
            continue
        case = {**case, "square": square}
        record = compare(__name__, case, ("sgemm", "forward", "dense"), BUDGET, memory=False)
        work = multiply_adds(case)
        share = {
            way: {key: value * work[way] / square**3 for key, value in once.items()}
            for way, once in record.pop("ratio").items()
        }
        yield {**record, "macs": work, "share": share}


def multiply_adds(case: dict) -> dict[str, float]:
    """Multiply-adds that are counted for each way, and those that ``forward`` computes ("done").

    A fused backward pass computes the scores again. A matrix product takes as many multiply-adds
    forward, and twice as many backward.
    """
    s = bench_op.sizes(case)
    pairwise = build_pairwise(case["form"], s.d)
    train, fused = case["mode"] == "train", pairwise.prefers_fused(s)
    passes = 3 if train else 1
    dense = forward = done = passes * s.pairs * (s.d + s.e)
    if fused and case["form"] == "dot_product":
        forward = done = passes * pairwise.fused_cost(s).macs
    elif fused and train:
        done += s.pairs * s.d
    return {
        "takes": "fused" if fused else "dense",
        "dense": dense,
        "forward": forward,
        "done": done,
    }


ALIKE = ()  # the outputs of the ways are not the same, so none are compared


def build(way: str, *, square: int, **case) -> Call:
    if way != "sgemm":
        return bench_op.build(way, **case)
    torch.manual_seed(0)
    a, b = (torch.randn(square, square, device=DEVICE) for _ in range(2))
    return lambda: (torch.mm(a, b),)
