"""Detectron2's hook that saves checkpoints, which here removes old ones with their checksums."""

from detectron2.engine import hooks

from .checkpoint import Checkpointer
from .checkpoint_files import remove_old_checkpoints


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's hook, which here also counts checkpoints from before a run was resumed.

    Args:
        checkpointer: saves the checkpoints.
        period: number of iterations between two.
        max_to_keep: number of periodic checkpoints to keep; None or 0 keeps all. The best and the
            final one are always kept.
        options: further arguments of Detectron2's hook.
    """

    def __init__(
        self, checkpointer: Checkpointer, period: int, max_to_keep: int | None = None, **options
    ):
        super().__init__(checkpointer, period, **options)
        self.keep = max_to_keep

    def step(self, iteration: int, **kwargs) -> None:
        super().step(iteration, **kwargs)
        if self.keep and (iteration + 1) % self.period == 0:
            folder = self.checkpointer.save_dir
            remove_old_checkpoints(folder, self.file_prefix, iteration, self.keep)
