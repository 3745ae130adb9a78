"""The block's convs that share an input: separate, as in the block, or as one joint conv.

phi and g share the pooled x; without a pool, theta shares x with them. The joint conv concatenates
the weights in each call, because the block keeps them separate for checkpoints of other code.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import cases
from .cases import DEVICE, small  # noqa: F401
from .comparison import compare
from .timing import Call

WAYS = ("separate", "joint")


def records(quick: bool) -> Iterator[dict]:
    for case in cases.all_cases(("theta, phi, g",), quick):
        case["form"] = "phi, g" if case["pooled"] else "theta, phi, g"
        yield compare(__name__, case, WAYS, cases.budget(case), memory=False)


def build(way: str, **case) -> Call:
    torch.manual_seed(0)
    channels, halves = case["channels"], 2 if case["pooled"] else 1
    space = case["height"] // halves, case["width"] // halves
    names = case["form"].split(", ")
    convs = [nn.Conv2d(channels, channels // 2, 1).to(DEVICE) for _ in names]
    x = torch.randn(case["images"], channels, *space, device=DEVICE)
    dys = [torch.randn(case["images"], channels // 2, *space, device=DEVICE) for _ in names]

    def convolve() -> tuple[Tensor, ...]:
        with cases.precision(case):
            if way == "separate":
                return tuple(conv(x) for conv in convs)
            weight = torch.cat([conv.weight for conv in convs])
            bias = torch.cat([conv.bias for conv in convs])
            return F.conv2d(x, weight, bias).split(channels // 2, dim=1)

    def forward():
        with torch.no_grad():
            return convolve()

    def train():
        return torch.autograd.grad(convolve(), wanted, dys)

    if not cases.trains(case):
        return forward
    wanted = [x.requires_grad_(), *(p for conv in convs for p in conv.parameters())]
    return train
