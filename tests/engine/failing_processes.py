"""Functions of processes that fail, which test_distributed.py imports and runs."""

import os
import signal
import sys
import time
from argparse import Namespace
from itertools import repeat
from pathlib import Path

import torch
from detectron2.engine import HookBase, SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn

from nl_detectron.engine import distributed
from nl_detectron.engine.distributed import distribute_model
from nl_detectron.engine.finite_steps import FiniteTrainer
from nl_detectron.engine.hooks import EvalHook
from nl_detectron.errors import UsageError


class Toy(nn.Linear):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"loss": super().forward(x).sum()}


class Fail(HookBase):
    """The second process fails in its last iteration, and leaves the time when it did."""

    def __init__(self, how: str, folder: Path):
        self.how, self.folder = how, folder

    def before_step(self) -> None:
        if self.trainer.iter < self.trainer.max_iter - 1 or comm.get_rank() != 1:
            return
        (self.folder / "failed").write_text(str(time.time()))
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise ZeroDivisionError("of the second process")


def fail(how: str, folder: Path) -> None:
    if how == "mistake":
        raise UsageError("the same in every process")
    model = distribute_model(Toy(2, 1))
    data = repeat(torch.ones(1, 2))
    trainer = SimpleTrainer(model, data, torch.optim.SGD(model.parameters(), lr=0.1))
    trainer.register_hooks([Fail(how, folder), EvalHook(0, comm.synchronize)])
    trainer.train(0, 3)


def leave_a_file(folder: Path) -> None:
    (folder / f"rank{comm.get_rank()}").touch()


class NamedToy(nn.Linear):
    """A model whose batch has file names, as Detectron2's models have."""

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        return {"loss": super().forward(batch[0]["x"]).sum()}


def lose_a_number() -> None:
    """The second process has a loss that is NaN in its second iteration."""
    torch.manual_seed(0)
    model = distribute_model(NamedToy(2, 1))
    rank = comm.get_rank()
    images = [{"x": torch.ones(1, 2), "file_name": f"{n}_of_{rank}.png"} for n in range(3)]
    if rank == 1:
        images[1]["x"] = torch.full((1, 2), torch.nan)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = FiniteTrainer(model, [[image] for image in images], optimizer)
    trainer.train(0, 3)


if __name__ == "__main__":  # by torchrun
    args = Namespace(num_gpus=1, num_machines=1)
    with distributed.one_message():
        distributed.follow_torchrun(args)
        distributed.launch(fail, (sys.argv[1], Path(sys.argv[2])), args, "cpu")
