"""Learning rates of non-local blocks, over that of all other parameters."""

import re
from collections.abc import Callable, Iterable, Mapping

from ..errors import UsageError

# What weighs positions against each other in a block; the rest of it is values and output.
PAIRWISE_LAYERS = ("theta.", "phi.", "pairwise.")


def scale_block_rate(
    factor: float = 1.0, pairwise_factor: float = 1.0, blocks: Iterable[str] | None = None
) -> Callable[[str], float]:
    """The factor of a parameter's learning rate by the parameter's name.

    It is the ``lr_factor_func`` of Detectron2's ``get_default_optimizer_params``.

    Args:
        factor: of all of a block, SOLVER.NONLOCAL_LR_FACTOR of a YAML.
        pairwise_factor: times that, for theta, phi and the pairwise function's own parameters,
            SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR of a YAML.
        blocks: module names of the blocks; by default any whose last part is ``nonlocal`` and a
            number, as all of this package's are.

    Raises:
        UsageError: a factor that is not above 0.
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
    """Raises UsageError for a factor, by its key, with which blocks would not learn."""
    for key, factor in factors.items():
        if factor <= 0:
            raise UsageError(
                f"{key}: expected a number above 0, got {factor}; to keep a block as it is, call "
                "its freeze()"
            )
