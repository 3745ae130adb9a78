"""What the RoI heads with non-local blocks between their convs share."""

from collections.abc import Sequence
from typing import Any, cast

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec

from ..config import block_options
from .placement import add_head_blocks


# Only a subclass decides which head super() is, so the base is Any to type checkers.
class NonLocalHead(cast(Any, object)):
    """Mixin before one of Detectron2's RoI heads: a block after each chosen conv's ReLU.

    Args:
        input_shape: of the RoI features.
        conv_dims: as in Detectron2's head.
        after: numbers of convs, counted from 1.
        block: ``make_block``'s keyword arguments; ``mask_padding`` has no effect in a head.
        kwargs: further arguments of Detectron2's head.

    Raises:
        ValueError: no conv, a conv that does not exist, or one named twice.

    Attributes:
        section: the head's section of MODEL.NONLOCAL.
        child: name of the module that a conv and its ReLU end with, by the conv's number.
        layers_with_blocks: which of ``conv_dims`` belong to convs that a block can follow.
    """

    section: str
    child: str
    layers_with_blocks = slice(None)

    @configurable
    def __init__(
        self,
        input_shape: ShapeSpec,
        *,
        conv_dims: Sequence[int],
        after: Sequence[int],
        block: dict[str, Any],
        **kwargs,
    ):
        super().__init__(input_shape, conv_dims=conv_dims, **kwargs)
        add_head_blocks(
            self,
            after,
            channels=conv_dims[self.layers_with_blocks],
            child=self.child,
            key=f"MODEL.NONLOCAL.{self.section}.AFTER",
            where=self.section.lower().replace("_", " "),
            **block,
        )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict[str, Any]:
        return {
            **super().from_config(cfg, input_shape),
            "after": cfg.MODEL.NONLOCAL[cls.section].AFTER,
            "block": block_options(cfg),
        }
