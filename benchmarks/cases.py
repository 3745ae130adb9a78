"""The cases that the benchmarks of sums, blocks and convs share: shapes, modes and dtypes."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import nn

from .timing import Budget, Call

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MODES = ("forward", "train")
if DEVICE == "cuda":
    MODES += tuple(f"{mode}, fp16" for mode in MODES)  # under autocast
LARGE, HUGE = 2e7, 1e8  # pairs of positions
STD = 0.1  # of x and of a block's weights: exponents are a few units


class Shape(NamedTuple):
    """Shape of x; theta, phi and g have half its channels."""

    images: int
    channels: int
    height: int
    width: int


SHAPES = {
    "res4": Shape(1, 1024, 50, 84),  # of an 800x1344 image
    "res3": Shape(1, 512, 100, 168),
    "rois": Shape(100, 512, 14, 14),  # of the keypoint head
}
QUICK = {
    "res4": Shape(1, 16, 6, 8),
    "res3": Shape(1, 8, 12, 16),
    "rois": Shape(4, 8, 6, 6),
}


def all_cases(forms: tuple[str, ...], quick: bool) -> Iterator[dict]:
    """Every form at every shape, pooled and not, forward and with the backward pass."""
    shapes = QUICK if quick else SHAPES
    for name, pooled, mode, form in product(shapes, (True, False), MODES, forms):
        yield {
            "shape": name,
            **shapes[name]._asdict(),
            "pooled": pooled,
            "form": form,
            "mode": mode,
        }


DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


def dtype(case: dict) -> torch.dtype:
    """Dtype in a case's mode, such as "train, bf16"; float32 by default."""
    return DTYPES.get(case["mode"].rsplit(", ")[-1], torch.float32)


def precision(case: dict) -> torch.autocast:
    """Autocast context of a case's calls."""
    half = dtype(case) != torch.float32
    return torch.autocast(DEVICE, dtype(case) if half else torch.float16, enabled=half)


def trains(case: dict) -> bool:
    return case["mode"].startswith("train")


def small(case: dict) -> dict:
    return {**case, "images": 1, "height": 4, "width": 4}


def positions(case: dict) -> tuple[int, int]:
    """N and M, the numbers of positions; a 2x2 pool keeps whole windows only."""
    height, width = case["height"], case["width"]
    pooled = (height // 2) * (width // 2) if case["pooled"] else height * width
    return height * width, pooled


def pairs(case: dict) -> int:
    n, m = positions(case)
    return case["images"] * n * m


def budget(case: dict) -> Budget:
    """At least five turns, three for large sums, and one for huge sums with a backward pass."""
    if pairs(case) > HUGE and trains(case):
        return Budget(at_least=1)
    return Budget(at_least=3 if pairs(case) > LARGE else 5)


def randomise(block: nn.Module) -> None:
    """Give all parameters of a block random values."""
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=STD)


def call_block(block: nn.Module, case: dict, shape: Sequence[int]) -> Call:
    """A case's call of a block on random x of a shape: its outputs z or, in training, z and dx.

    Blocks with the same weights get the same x and, in training, the same gradient of z.
    """
    torch.manual_seed(1)  # building another project's block has drawn random numbers
    x, dz = (STD * torch.randn(*shape, device=DEVICE) for _ in range(2))

    def forward():
        with torch.no_grad(), precision(case):
            return (block(x),)

    def train():
        with precision(case):
            z = block(x)
        dx, *_ = torch.autograd.grad(z, wanted, dz)
        return z.detach(), dx

    if not trains(case):
        return forward
    wanted = [x.requires_grad_(), *block.parameters()]
    return train
