"""Training steps that are only taken if every loss and every gradient is finite."""

import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, NoReturn, cast

import torch
import torch.distributed as dist
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nl_detectron_cli.names import program_name

from ..errors import UsageError
from .nonfinite_output import find_nonfinite_output

MOST_IMAGES = 8  # images of a batch that a message names
HELP = (
    "What usually helps: a lower learning rate, a longer warm-up, gradient clipping, and right "
    f"annotations ({program_name('check')}). The step was not taken, and the last checkpoint is "
    "the one from before"
)


class NonFiniteError(UsageError, FloatingPointError):
    """A loss or a gradient is NaN or infinite. The message says where this began."""


class Finding(NamedTuple):
    """What a process has found wrong, "" if nothing; whether in its losses; and its images."""

    cause: str
    in_loss: bool
    images: str


class FiniteTrainer(SimpleTrainer):
    """Detectron2's ``SimpleTrainer``, which here stops before a step that is not finite.

    The losses and the 2-norm of each gradient are read from the device at once, right before
    Detectron2 reads the losses to write them, so no step waits for the device once more. The
    processes of a run agree, and stop together.

    Attributes:
        autocast: context of a forward pass.
    """

    autocast: Callable[[], AbstractContextManager] = nullcontext

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._batch: Any = None
        self._parameters = list(self.model.parameters())
        self.model.register_forward_pre_hook(self._keep_batch)
        logging.getLogger("detectron2.engine.train_loop").addFilter(_has_no_usage_error)

    def run_step(self) -> None:
        """Train for an iteration.

        Raises:
            NonFiniteError: a loss or a gradient is not finite; the model is unchanged.
        """
        try:
            self.take_step()
        except NonFiniteError:
            raise
        except FloatingPointError as error:  # Detectron2's RPN raises it for boxes
            self.stop(" ".join(str(error).split()))
        finally:
            self._batch = None

    def take_step(self) -> None:
        """Train for an iteration, as Detectron2 does."""
        super().run_step()

    def _keep_batch(self, _: nn.Module, args: tuple) -> None:
        if self.model.training:
            self._batch = args[0]

    def _write_metrics(self, loss_dict: Mapping[str, Tensor], *args, **kwargs) -> None:
        """Check the numbers, then write the losses. Detectron2 calls this before every step."""
        self._check(loss_dict)
        super()._write_metrics(loss_dict, *args, **kwargs)

    @torch.no_grad()
    def _check(self, losses: Mapping[str, Tensor]) -> None:
        """Stop if a loss or a gradient of any process is not finite."""
        # names are looked up later, as only an error needs them
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        # what clip_grad_norm_ of PyTorch uses; there is no public name for it
        norms = torch._foreach_norm(gradients) if gradients else ()  # pyright: ignore
        finite = torch.stack([*(loss.float() for loss in losses.values()), *norms]).isfinite()
        stop = finite.logical_not().any().float()
        if comm.get_world_size() > 1:
            dist.all_reduce(stop, dist.ReduceOp.MAX)
        if stop.item():
            parameters = _unwrap(self.model).named_parameters()
            names = [name for name, p in parameters if p.grad is not None] if gradients else []
            self._stop_together(finite.tolist(), losses, names)

    def _stop_together(
        self, finite: Iterable[bool], losses: Mapping[str, Tensor], gradients: Iterable[str]
    ) -> NoReturn:
        """Raise the same NonFiniteError in all processes, each of which calls this."""
        wrong = [name for name, good in zip((*losses, *gradients), finite, strict=True) if not good]
        cause = self._find_cause(_describe(wrong, losses)) if wrong else ""
        own = Finding(cause, bool(wrong) and wrong[0] in losses, _name_images(self._batch))
        found = [one for one in cast(list[Finding], comm.all_gather(own)) if one.cause]
        # a gradient is the mean over all processes, but a loss is one process's own
        found = [one for one in found if one.in_loss] or found
        self._raise(found[0].cause, ", ".join(one.images for one in found))

    def _find_cause(self, what: str) -> str:
        """What is not finite, and by a second forward pass where this begins."""
        with self.autocast():
            output = find_nonfinite_output(_unwrap(self.model), self._batch)
        if output is None:
            return f"{what}; in a second forward pass all outputs are finite"
        return f"{what}; the first output that is not finite is that of {output}"

    def stop(self, what: str) -> NoReturn:
        """Raise NonFiniteError in this process. It says what is not finite."""
        self._raise(self._find_cause(what), _name_images(self._batch))

    def _raise(self, cause: str, images: str) -> NoReturn:
        text = f"training stopped at iteration {self.iter}: {cause}. Images: {images}. {HELP}"
        raise NonFiniteError(text) from None


def _unwrap(model: nn.Module) -> nn.Module:
    return model.module if isinstance(model, DistributedDataParallel) else model


def _describe(wrong: list[str], losses: Mapping[str, Tensor]) -> str:
    """The losses that are not finite, or else the gradients."""
    if found := [f"{name} is {losses[name].item()}" for name in wrong if name in losses]:
        return ", ".join(found)
    more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
    # the last ones belong to the last modules, where a backward pass begins
    return f"all losses are finite, but not the gradient of {wrong[-1]}{more}"


def _name_images(batch: Any) -> str:
    """File names and ids of a batch's images, as far as it has them."""
    images = [one for one in batch if isinstance(one, Mapping)] if batch is not None else []
    names = [f"{i.get('file_name', '?')} (id {i.get('image_id', '?')})" for i in images]
    more = [f"and {len(names) - MOST_IMAGES} more"] if len(names) > MOST_IMAGES else []
    return ", ".join([*names[:MOST_IMAGES], *more]) or "no names"


def _has_no_usage_error(record: logging.LogRecord) -> bool:
    """A log filter that leaves out the traceback of an error whose text says everything."""
    return not (record.exc_info and isinstance(record.exc_info[1], UsageError))
