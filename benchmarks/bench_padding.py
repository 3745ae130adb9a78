"""Blocks with and without MODEL.NONLOCAL.MASK_PADDING, on the same padded batch: time and kernels.

Shapes are those of 800x1344 images in res4, every second of which is three quarters as wide.
"""

from collections.abc import Iterator
from itertools import product

import torch
from torch import nn

from nl_detectron.layers import PAIRWISE, NonLocalBlock

from . import cases as shared
from .comparison import compare
from .fresh import in_one_line
from .kernel_count import count_kernels
from .timing import Budget, Call

CHANNELS, HEIGHT, WIDTH = 1024, 50, 84
WAYS = ("on", "off")
ALIKE = ()  # the two are not the same computation
MODES = ("train, fp32", "train, fp16")
BUDGET, QUICK_BUDGET = Budget(seconds=0.5, at_least=9), Budget(seconds=0.0, at_least=1)


def cases(quick: bool) -> list[dict]:
    size = {"channels": 16, "height": 4, "width": 8} if quick else {}
    pairs = product(PAIRWISE, MODES)
    return [{"what": "padding", "form": form, "mode": mode, **size} for form, mode in pairs]


def records(quick: bool) -> Iterator[dict]:
    """Comparisons with the time of on over that of off as the ratio."""
    for case in cases(quick):
        try:
            yield compare(__name__, case, WAYS, QUICK_BUDGET if quick else BUDGET, memory=False)
        except Exception as error:
            yield {"case": case, "refused": {"comparison": in_one_line(error)}}


def random_block(form: str, channels: int = CHANNELS) -> NonLocalBlock:
    torch.manual_seed(0)
    block = NonLocalBlock(channels, pairwise=form)
    nn.init.normal_(block.w_z.weight, std=0.01)
    return block


def build(
    way: str,
    *,
    form: str,
    mode: str,
    channels: int = CHANNELS,
    images: int = 2,
    height: int = HEIGHT,
    width: int = WIDTH,
    device: str = shared.DEVICE,
    **_,
) -> Call:
    block = random_block(form, channels).to(device)
    x = torch.randn(images, channels, height, width, device=device).relu()
    sizes = [(height, width if number % 2 else 3 * width // 4) for number in range(images)]
    case, given = {"mode": mode}, sizes if way == "on" else None

    def forward() -> tuple[torch.Tensor, ...]:
        with torch.no_grad(), shared.precision(case):
            return (block(x, given),)

    def train() -> tuple[torch.Tensor, ...]:
        with shared.precision(case):
            z = block(x, given)
        leaves = [x, *block.parameters()]
        dx, *_ = torch.autograd.grad(z, leaves, torch.ones_like(z), allow_unused=True)
        return z.detach(), dx

    x.requires_grad_(shared.trains(case))
    return train if shared.trains(case) else forward


def kernels(form: str, mode: str, images: int) -> tuple[int, int]:
    """Kernels of a call on a GPU with the key off, and with it on."""
    calls = {
        way: build(way, form=form, mode=mode, images=images, height=20, width=32, device="meta")
        for way in WAYS
    }
    return count_kernels(calls["off"]), count_kernels(calls["on"])
