"""Benchmarks of gpu_proof: sums and blocks, dense against fused, and whole models.

Shapes are those of two 800x1344 images, and of their RoIs in a keypoint head. Changing shapes are
those of multi-scale images and their RoIs.
"""

from collections.abc import Callable, Iterator
from itertools import product

import torch

from nl_detectron.layers import NonLocalBlock
from nl_detectron.layers.choice import Sizes, prefers_sdpa

from . import cases, fresh
from .comparison import compare
from .fused_attention import WAYS
from .timing import Budget, Call, spread

BUDGET, QUICK_BUDGET = Budget(seconds=0.3, at_least=5), Budget(seconds=0.0, at_least=1)
CHANGING_BUDGET = Budget(seconds=1.0, at_least=5)  # kernels are loaded in the first call: 0.4 s
MODEL_BUDGET = Budget(seconds=5.0, at_least=6, at_most=40, within=0.03)
Size = tuple[int, int, int]  # (B,H,W) of x
CHANNELS = {"res4": 1024, "res3": 512, "RoIs": 512}
FIXED: dict[str, list[Size]] = {
    "res4": [(2, 50, 84)],
    "res3": [(2, 100, 168)],
    "RoIs": [(200, 14, 14)],
}
CHANGING: dict[str, list[Size]] = {
    "res4": [(2, 50, 84), (2, 40, 62), (2, 44, 58), (2, 48, 80), (2, 42, 56), (2, 46, 76)],
    "RoIs": [(rois, 14, 14) for rois in (200, 37, 121, 64, 183, 9)],
}


def block_cases(what: str, quick: bool) -> list[dict]:
    """Cases of one benchmark: the ``sum`` alone, the ``block``, or the block at ``changing``
    shapes."""
    shapes, modes = (CHANGING, ("train",)) if what == "changing" else (FIXED, ("forward", "train"))
    built = [
        {
            "what": what,
            "shape": shape,
            "channels": CHANNELS[shape],
            "sizes": shapes[shape],
            "mode": f"{mode}, {precision}",
        }
        for shape, mode, precision in product(shapes, modes, cases.DTYPES)
    ]
    if not quick:
        return built
    res4 = [case for case in built if case["shape"] == "res4"]
    tiny = [(2, 4, 6)] * len(res4[0]["sizes"])
    return [{**case, "channels": 16, "sizes": tiny} for case in (res4[0], res4[-1])]


def block_records(quick: bool) -> Iterator[dict]:
    budget = QUICK_BUDGET if quick else BUDGET
    for case in block_cases("sum", quick):
        s = _sizes(case)
        case |= {"images": s.b, "n": s.n, "m": s.m, "channels": s.d}
        yield _attempt(case, "benchmarks.fused_attention", WAYS, budget)
    for case in block_cases("block", quick):
        chosen = "fused" if prefers_sdpa(_sizes(case)) else "dense"
        yield {**_attempt(case, __name__, WAYS, budget), "takes": chosen}
    for case in block_cases("changing", quick):
        yield _measure_changing(case, QUICK_BUDGET if quick else CHANGING_BUDGET)


def model_cases(quick: bool) -> list[dict]:
    from .bench_models import IMAGE, MODELS, QUICK_IMAGE

    mask, _, keypoints = MODELS
    height, width = QUICK_IMAGE if quick else IMAGE
    tasks = product((mask, keypoints), ("fp32", "fp16"), ("train", "inference"))
    if quick:
        tasks = [(mask, "fp32", "train"), (keypoints, "fp32", "inference")]
    sizes = {"images": 2, "height": height, "width": width, "thin": quick}
    return [
        {"model": model, "mode": f"{mode}, {precision}", **sizes}
        for model, precision, mode in tasks
    ]


def model_records(quick: bool) -> Iterator[dict]:
    for case in model_cases(quick):
        budget = QUICK_BUDGET if quick else MODEL_BUDGET
        yield _attempt(case, "benchmarks.bench_models", ("nonlocal", "baseline"), budget)


def _sizes(case: dict) -> Sizes:
    """Sizes of the sum in a block that pools x to phi and g."""
    ((b, h, w),), d = case["sizes"], case["channels"] // 2
    return Sizes(b, h * w, d, (h // 2) * (w // 2), d, "cuda", cases.dtype(case))


def _measure_changing(case: dict, budget: Budget) -> dict:
    """Measure each way in a fresh process, which runs a sequence of shapes several times.

    Seconds are means over the shapes of the sequence.
    """
    record = {"case": case, "refused": {}, "seconds": {}, "first_seconds": {}}
    for way in WAYS:
        try:
            measured = fresh.measure(__name__, way, case, budget)
        except fresh.Failed as error:
            record["refused"][way] = str(error)
        else:
            shapes = len(case["sizes"])
            record["seconds"][way] = spread([s / shapes for s in measured["seconds"]])
            record["first_seconds"][way] = spread([measured["first_seconds"] / shapes])
    return record


def _attempt(case: dict, module: str, ways: tuple[str, ...], budget: Budget) -> dict:
    """A comparison, or the reason why it failed, so that the next one can run."""
    try:
        return compare(module, case, ways, budget)
    except Exception as error:
        return {"case": case, "refused": {"comparison": fresh.in_one_line(error)}}


def build(way: str, *, channels: int, sizes: list[Size], mode: str, **_) -> Call:
    """Build a call of a block at each of the sizes in turn; ``way`` is a method of its sum."""
    torch.manual_seed(0)
    block = NonLocalBlock(channels)
    cases.randomise(block)
    block.to(cases.DEVICE).pairwise.fused = getattr(block.pairwise, way)
    case = {"mode": mode}
    options = {"device": cases.DEVICE, "dtype": cases.dtype(case)}
    xs = [cases.STD * torch.randn(b, channels, h, w, **options) for b, h, w in sizes]

    def forward(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad(), cases.precision(case):
            return (block(x),)

    def train(x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        x.requires_grad_()
        with cases.precision(case):
            z = block(x)
        dx, *_ = torch.autograd.grad(z, [x, *block.parameters()], x.detach())
        return z.detach(), dx

    run: Callable = train if cases.trains(case) else forward

    def call() -> tuple[torch.Tensor, ...]:
        for x in xs:
            result = run(x)
        return result

    return call


def small(case: dict) -> dict:
    return {**case, "sizes": [(1, 4, 4)]}
