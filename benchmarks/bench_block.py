"""Our ``NonLocalBlock`` against mmcv's ``NonLocal2d``, with the same weights and the same outputs.

mmcv's sub_sample pools phi and g after their convs, as our subsample="after" does. Our "before"
(that of the released code, and our default) is a different function of x. It is timed too, but its
outputs are not compared. mmcv has no global_context.
"""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from nl_detectron.layers import NonLocalBlock

from . import cases, fresh
from .cases import DEVICE, small  # noqa: F401
from .comparison import compare
from .timing import Call

FORMS = ("gaussian", "embedded_gaussian", "dot_product", "concatenation")
ALIKE = ("mmcv", "none", "after")  # ways whose outputs must agree


def records(quick: bool) -> Iterator[dict]:
    for case in cases.all_cases(FORMS, quick):
        ways = ("mmcv", "after", "before") if case["pooled"] else ("mmcv", "none")
        yield compare(__name__, case, ways, cases.budget(case))


def build(way: str, **case) -> Call:
    """Build the call of a case; ``way`` is "mmcv", or the subsample argument of our block."""
    torch.manual_seed(0)
    channels = case["channels"]
    ours = NonLocalBlock(
        channels,
        pairwise=case["form"],
        subsample=way if way != "mmcv" else "after" if case["pooled"] else "none",
    )
    cases.randomise(ours)
    block = (as_mmcv(ours) if way == "mmcv" else ours).to(DEVICE)
    shape = (case["images"], channels, case["height"], case["width"])
    return cases.call_block(block, case, shape)


def as_mmcv(ours: NonLocalBlock) -> nn.Module:
    """Return mmcv's block with the weights of ours."""
    from mmcv.cnn.bricks import NonLocal2d, NonLocal3d

    kind, conv_class = {2: (NonLocal2d, nn.Conv2d), 3: (NonLocal3d, nn.Conv3d)}[ours.ndim]
    mmcv_block = kind(
        ours.in_channels,
        reduction=ours.in_channels // ours.inner_channels,
        sub_sample=ours.subsample == "after",
        mode=ours.pairwise_name,
    )
    for name, module in (("theta", ours.theta), ("phi", ours.phi), ("g", ours.g)):
        if isinstance(module, conv_class):
            conv = getattr(mmcv_block, name)  # with a pool, a Sequential of both
            conv = conv[0] if isinstance(conv, nn.Sequential) else conv
            conv.conv.load_state_dict(module.state_dict())
    mmcv_block.conv_out.conv.load_state_dict(ours.w_z.state_dict())
    if ours.pairwise_name == "concatenation":
        # a 2-D conv in its 3-D block, too: over pairs
        _copy(ours.pairwise.w_f[None, :, None, None], mmcv_block.concat_project.conv.weight)
    return mmcv_block


@torch.no_grad()
def _copy(source: Tensor, target: Tensor) -> None:
    target.copy_(source)


def refuse(way: str, case: dict) -> str:
    """Why a case is not run: mmcv's block would take too much memory; "" if it would not.

    mmcv's concatenation repeats theta and phi to (D,N,M) and concatenates them to (2D,N,M). With
    inner channels D = C/2 these are C channels, once repeated, once concatenated and once copied
    for the conv.
    """
    if way != "mmcv":
        return ""
    pairs = cases.pairs(case)
    if case["form"] == "concatenation":
        return fresh.too_large(4 * pairs * case["channels"] * 3)
    return fresh.too_large(4 * pairs * (6 if cases.trains(case) else 3))
