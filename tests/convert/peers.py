"""Other projects' own blocks with random weights, and how far ours are from them.

The modules are run where they are installed: ``make setup-peers``. Of projects that cannot be
installed from a package index, ``block_equations.py`` restates the equations.

    python tests/convert/peers.py    # the largest differences, in a table
"""

import importlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from block_equations import DOT, EMBEDDED, cases, convert, difference
from tabulate import tabulate
from torch import nn

MMCV = "mmcv.cnn.bricks.non_local"
PYTORCHVIDEO = "pytorchvideo.layers.nonlocal_net"
CHANNELS = 64

Case = tuple[str, str, dict[str, Any], int]  # module, its block, arguments, dimensions


def mmcv_cases() -> Iterator[Case]:
    """Every form, pool and norm in 2-D, other dimensions, and no scale."""
    norms = {"BN": {"type": "BN"}, "GN": {"type": "GN", "num_groups": 32}, "": None}
    for mode, pooled, norm in itertools.product(
        (EMBEDDED, DOT, "gaussian", "concatenation"), (True, False), norms.values()
    ):
        yield MMCV, "NonLocal2d", {"mode": mode, "sub_sample": pooled, "norm_cfg": norm}, 2
    for ndim in (1, 3):
        norm = {"type": f"BN{ndim}d"}
        yield MMCV, f"NonLocal{ndim}d", {"sub_sample": True, "norm_cfg": norm}, ndim
    yield MMCV, "NonLocal2d", {"use_scale": False}, 2


def pytorchvideo_cases() -> Iterator[Case]:
    """Both forms, every pool that converts, with a norm and without."""
    for form, pool, norm in itertools.product(
        ("softmax", "dot_product"), ((1, 2, 2), (1, 1, 1), None), (nn.BatchNorm3d, None)
    ):
        arguments = {"instantiation": form, "pool_size": pool, "norm": norm}
        yield PYTORCHVIDEO, "create_nonlocal", arguments, 3


def peer_block(case: Case) -> nn.Module:
    """A project's block in float64 and evaluation mode, with random tensors."""
    module, name, arguments, _ = case
    if module == PYTORCHVIDEO:
        arguments = {"dim_in": CHANNELS, "dim_inner": CHANNELS // 2, **arguments}
    else:
        arguments = {"in_channels": CHANNELS, **arguments}
    block = getattr(importlib.import_module(module), name)(**arguments).double().eval()
    for name, tensor in block.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2)
        elif tensor.is_floating_point():
            tensor.normal_(std=0.3)
    return block


def given(case: Case) -> dict[str, Any]:
    """Arguments of a case's conversion, for what its tensors do not show."""
    module, _, arguments, _ = case
    if module == PYTORCHVIDEO:
        form = {"softmax": EMBEDDED, "dot_product": DOT}[arguments["instantiation"]]
        return {"pairwise": form, "pool": arguments["pool_size"] or (1, 1, 1)}
    mode = arguments.get("mode", EMBEDDED)
    options = {"pairwise": mode} if mode in (EMBEDDED, DOT) else {}
    if mode == EMBEDDED:
        options["scale"] = "divided" if arguments.get("use_scale", True) else "none"
    if groups := (arguments.get("norm_cfg") or {}).get("num_groups"):
        options["groups"] = groups
    return options


def peer_difference(case: Case, ndim: int | None = None) -> tuple[float, float]:
    """Largest |ours - theirs|, and largest |theirs - x|, for one random x (2,C,S).

    With ``ndim`` 2 a block of videos is compared on one frame, which ours takes as an image.
    """
    theirs, source = peer_block(case), "slowfast" if case[0] == PYTORCHVIDEO else "mmcv"
    dimensions = case[-1]
    ndim = ndim or dimensions
    ours = convert(theirs.state_dict(), source, ndim, **given(case))
    shape = (3, 5, 6)[-dimensions:] if ndim == dimensions else (1, 5, 6)
    x = torch.randn(2, CHANNELS, *shape).double() / 4
    with torch.no_grad():
        z = theirs(x)
        our_z = ours(x if ndim == dimensions else x.squeeze(2)).reshape_as(z)
    return (our_z - z).abs().max().item(), (z - x).abs().max().item()


def table() -> str:
    """The largest difference of each source, over all of its cases."""

    def row(name: str, compare: Callable, cases: list) -> list:
        differences, moved = zip(*(compare(case) for case in cases), strict=True)
        return [name, len(cases), f"{max(differences):.1e}", f"{min(moved):.1f}"]

    restated = {case[0]: [] for case in cases()}
    for case in cases():
        restated[case[0]].append(case)
    rows = [
        row("mmcv, its own module", peer_difference, list(mmcv_cases())),
        row("pytorchvideo, its own module", peer_difference, list(pytorchvideo_cases())),
        *(row(f"{name}, restated", difference, some) for name, some in restated.items()),
    ]
    headers = ["block of", "cases", "largest |ours - theirs|", "smallest largest |theirs - x|"]
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    print(table())
