"""Learning rates of non-local blocks, relative to that of all other parameters."""

import re
from collections.abc import Callable, Iterable, Mapping

from ..errors import UsageError

# Layers of a block that decide the weights of positions; the others make values and the output.
PAIRWISE_LAYERS = ("theta.", "phi.", "pairwise.")


def scale_block_rate(
    factor: float = 1.0, pairwise_factor: float = 1.0, blocks: Iterable[str] | None = None
) -> Callable[[str], float]:
    """Return a function from a parameter's name to the factor of its learning rate.

    It is the ``lr_factor_func`` of Detectron2's ``get_default_optimizer_params``.

    Args:
        factor: for all parameters of a block, as SOLVER.NONLOCAL_LR_FACTOR in a YAML file.
        pairwise_factor: multiplies ``factor`` for theta, phi and the pairwise function's own
            parameters, as SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR in a YAML file.
        blocks: module names of the blocks; by default, all names that end in ``nonlocal`` and a
            number, as those of this package do.

    Raises:
        UsageError: a factor is 0 or less.
    """
    check_factors(
        {"scale_block_rate's factor": factor, "scale_block_rate's pairwise_factor": pairwise_factor}
    )
    names = [r"(?:.*\.)?nonlocal\d+"] if blocks is None else map(re.escape, blocks)
    in_block = re.compile(rf"(?:{'|'.join(names)})\.(.+)")

    def lr_factor(name: str) -> float:
        match = in_block.fullmatch(name)
        if match is None:
            return 1.0
        return factor * (pairwise_factor if match[1].startswith(PAIRWISE_LAYERS) else 1.0)

    return lr_factor


def check_factors(factors: Mapping[str, float]) -> None:
    """Raises UsageError for a factor, given by its key, of 0 or less: blocks would not learn."""
    for key, factor in factors.items():
        if factor <= 0:
            raise UsageError(
                f"{key}: expected a number above 0, got {factor}; to keep a block as it is, call "
                "its freeze()"
            )
