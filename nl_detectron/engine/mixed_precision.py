"""Training in mixed precision, as in Detectron2, but also on a CPU and in bfloat16."""

import time
from functools import partial
from typing import cast

import torch
from detectron2.engine import AMPTrainer
from torch import Tensor, nn

from ..errors import UsageError
from .finite_steps import FiniteTrainer

DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# A gradient that overflows at this scale of the losses is above 6e8, so no scale is small enough.
SMALLEST_SCALE = 1e-4


class MixedPrecisionTrainer(FiniteTrainer, AMPTrainer):
    """Detectron2's ``AMPTrainer`` for any device that autocast supports.

    Args:
        model: the model, on the device that it trains on.
        data_loader, optimizer: as in Detectron2's trainer.
        dtype: a key of ``DTYPES``. Losses are scaled for float16 only: bfloat16 has the exponents
            of float32. The scaler leaves out the steps of gradients that overflow, and they are no
            error until the scale has become smaller than ``SMALLEST_SCALE``.
    """

    def __init__(self, model: nn.Module, data_loader, optimizer: torch.optim.Optimizer, dtype: str):
        self.device_type = next(model.parameters()).device.type
        scaler = torch.amp.GradScaler(self.device_type, enabled=dtype == "float16")
        super().__init__(model, data_loader, optimizer, grad_scaler=scaler, precision=DTYPES[dtype])
        if scaler.is_enabled():  # it checks the gradients
            self._parameters = []
        self.autocast = partial(torch.autocast, self.device_type, self.precision)

    def take_step(self) -> None:
        """Train for an iteration. Detectron2's own method asserts a CUDA device."""
        start = time.perf_counter()
        data = next(self._data_loader_iter)
        data_time = time.perf_counter() - start
        with self.autocast():
            losses = self.model(data)
            total = cast(Tensor, sum(losses.values()))
        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self.after_backward()
        self._write_metrics(losses, data_time)
        if self.grad_scaler.get_scale() < SMALLEST_SCALE:
            self.stop("the gradients have been infinite or NaN at every loss scale")
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()


def check_precision(enabled: bool, dtype: str, device: str, key: str) -> None:
    """Check the dtype of mixed precision, which is the value of a config's ``key``.

    Raises:
        UsageError: the dtype is unknown, or the GPU cannot compute in it.
    """
    if dtype not in DTYPES:
        raise UsageError(f"{key}: expected one of {', '.join(DTYPES)}, got {dtype!r}")
    on_gpu = enabled and device.startswith("cuda")
    if on_gpu and dtype == "bfloat16" and not torch.cuda.is_bf16_supported():
        raise UsageError(f"{key}: this GPU does not compute in bfloat16; use float16")
