"""Inserts blocks into an existing ``nn.Sequential`` without renaming its children.

A checkpoint identifies tensors by name. A block therefore gets a name of its own, and a name such
as ``res4.5.conv1.weight`` stays the same.
"""

import logging
from collections.abc import Sequence
from contextlib import contextmanager

import torch
from torch import nn

from ..layers import NonLocalBlock

logger = logging.getLogger(__name__)


def make_block(
    in_channels: int,
    *,
    pairwise: str,
    reduction: int,
    subsample: str,
    use_scale: bool,
    norm: str,
    checkpoint: bool,
    block_class: type[NonLocalBlock] = NonLocalBlock,
    **more,
) -> NonLocalBlock:
    """Build a block with ``in_channels // reduction`` inner channels, by default a 2-D one.

    Args:
        in_channels: the channels of x.
        pairwise, reduction, subsample, use_scale, norm, checkpoint: as in MODEL.NONLOCAL.
        block_class: the class of the block.
        more: arguments that only this class has.

    Raises:
        ValueError: no inner channels would remain, or any error of :class:`NonLocalBlock`.
    """
    if reduction < 1 or in_channels // reduction < 1:
        raise ValueError(
            f"MODEL.NONLOCAL.REDUCTION: expected 1 to {in_channels} here, got {reduction}"
        )
    return block_class(
        in_channels,
        inner_channels=in_channels // reduction,
        pairwise=pairwise,
        subsample=subsample,
        use_scale=use_scale,
        norm=norm,
        checkpoint=checkpoint,
        **more,
    )


def insert_after(container: nn.Module, child: str, name: str, module: nn.Module) -> None:
    """Insert ``module`` under ``name`` right after the child called ``child``."""
    names = list(container._modules)  # named_children leaves out a module's second name
    container.add_module(name, module)
    for later in names[names.index(child) + 1 :]:  # move behind the new one, in order
        moved = getattr(container, later)
        delattr(container, later)
        container.add_module(later, moved)


def add_head_blocks(
    head: nn.Sequential,
    after: Sequence[int],
    *,
    channels: Sequence[int],
    child: str,
    key: str,
    where: str,
    mask_padding: bool = False,
    **options,
) -> None:
    """Add a block behind each chosen conv of an RoI head, in place.

    The block behind conv 2 becomes ``nonlocal2``.

    Args:
        head: whose own init has run: a loop over all its parameters would undo the blocks' zeros.
        after: numbers of convs, from 1.
        channels: that each of the convs gives.
        child: what a conv and its ReLU end with, by number, such as ``"mask_fcn{}"``.
        key: of the config that ``after`` comes from.
        where: the head's name in the log.
        mask_padding: has no effect, as RoIs are not padded.
        options: ``make_block``'s keyword arguments.

    Raises:
        ValueError: no conv, a conv that does not exist, or one named twice, or a norm that needs
            RoIs in every process.
    """
    _check_convs(after, len(channels), key)
    if options["norm"] == "naiveSyncBN":
        raise ValueError(
            f"{key}: the norm naiveSyncBN would stop in the {where} when one of several processes "
            "has no RoI; naiveSyncBN_N (MODEL.NONLOCAL.NORM) does the same for any number of RoIs"
        )
    blocks = {}
    with isolated_rng():
        for conv in after:
            blocks[f"nonlocal{conv}"] = make_block(channels[conv - 1], **options)
            insert_after(head, child.format(conv), f"nonlocal{conv}", blocks[f"nonlocal{conv}"])
    log_blocks(where, blocks)


def _check_convs(after: Sequence[int], convs: int, key: str) -> None:
    if not convs:
        raise ValueError(
            f"{key}: this head has no convs that blocks could follow. Give it some (NUM_CONV or "
            "CONV_DIMS), or use Detectron2's own head"
        )
    if not after:
        raise ValueError(
            f"{key} is empty, so this non-local head would be a baseline. Name convs (1 to "
            f"{convs}), or use Detectron2's own head"
        )
    for conv in after:
        if type(conv) is not int or conv not in range(1, convs + 1):
            raise ValueError(f"{key}: there is no conv {conv!r}; this head has 1 to {convs}")
    if len(set(after)) < len(after):
        raise ValueError(f"{key}: a conv is named more than once in {list(after)}")


@contextmanager
def isolated_rng():
    """Restore the global random state, so a model without blocks gets the same initial weights."""
    seed = (torch.initial_seed() + 1) % 2**64
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # the CPU's generator; GPUs' are not reset
        yield


def log_blocks(where: str, blocks: dict[str, NonLocalBlock]) -> None:
    """Log one line with the name, pairwise function, channels and parameters of each block."""
    described = (
        f"{name} ({block.pairwise_name}, {block.in_channels} -> {block.inner_channels} channels, "
        f"{sum(p.numel() for p in block.parameters()):,} parameters)"
        for name, block in blocks.items()
    )
    logger.info("Non-local blocks in the %s: %s", where, "; ".join(described))
