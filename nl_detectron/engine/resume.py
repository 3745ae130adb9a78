"""Lets a resumed run end exactly as one that was never stopped."""

import logging
import os
import signal
from collections.abc import Iterator
from typing import Any, cast

import torch
from detectron2.engine import HookBase, hooks
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils import comm
from detectron2.utils.events import EventStorage, JSONWriter, TensorboardXWriter
from fvcore.common.history_buffer import HistoryBuffer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.bad_samples import CheckedLoader
from .random_states import get_random_states, set_random_states
from .run import Run
from .stopping import Stopped, StopSignals, resume_command
from .train_loader import TrainLoader

logger = logging.getLogger(__name__)
WINDOW = 20  # iterations over which Detectron2's writers smooth metrics


class ResumeState(HookBase):
    """Saves what Detectron2's checkpoints lack: the place in the data, each process's random
    states, and the metrics that were not yet written.

    Where a signal asks for it, it also saves a checkpoint and stops the run (:class:`Stopped`).

    It must come right before ``PeriodicCheckpointer``, in every process. A checkpoint is therefore
    of the middle of an iteration's hooks: an evaluation comes after it. :meth:`restore` calls the
    hooks that were left, so that an evaluation which was interrupted is made again.
    """

    def __init__(self, run: Run, signals: StopSignals):
        self.run, self.signals = run, signals
        self.saved: dict[str, Any] = {}

    def after_step(self) -> None:
        trainer, number = cast(Any, self.trainer), self.signals.agree()
        done = trainer.iter + 1
        stops = bool(number) and done < trainer.max_iter  # else it ends anyway
        periods = filter(None, (self.run.checkpoints["period"], self.run.eval_period))
        if stops or done == trainer.max_iter or any(done % period == 0 for period in periods):
            self.saved = self._collect()
        if not stops:
            return
        if comm.is_main_process():
            name = f"model_{trainer.iter:07d}"  # as PeriodicCheckpointer's
            trainer.checkpointer.save(name, iteration=trainer.iter)
            logger.warning(
                "Stopped by %s after %d of %d iterations; %s has all of them. To continue: %s",
                signal.Signals(number).name,
                done,
                trainer.max_iter,
                os.path.join(self.run.output_dir, f"{name}.pth"),
                resume_command(self.run.output_dir),
            )
        comm.synchronize()  # a launcher may end all processes when the first one ends
        raise Stopped(number)

    def state_dict(self) -> dict[str, Any]:
        return self.saved

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.saved = state

    def _collect(self) -> dict[str, Any]:
        model = self._model()
        own = {
            "random": get_random_states(),
            "bad_samples": sum(loader.bad_samples for loader in self._checked_loaders()),
            "normalizers": _loss_normalizers(model),
            "buffers": {name: buffer.cpu() for name, buffer in model.named_buffers()},
        }
        ranks = cast(list[dict[str, Any]], comm.gather(own))
        if not comm.is_main_process():
            return {}
        _keep_other_buffers(ranks)
        return {
            "iteration": self.trainer.iter,
            "loaders": [loader.state_dict() for loader in self._loaders()],
            "ranks": ranks,
            "metrics": _get_metrics(self.trainer.storage),
            "written": [(writer._last_write, self._metrics_size()) for writer in self._writers()],
        }

    def restore(self) -> None:
        """Continue from the checkpoint that was loaded, if any. To be called after all hooks'
        ``before_train``."""
        trainer, state = cast(Any, self.trainer), self.saved
        if not trainer.start_iter:
            return
        last = trainer.start_iter - 1
        if state.get("iteration") != last:
            logger.warning(
                "The checkpoint holds no random states and no place in the data: the run continues "
                "with the first images of its order, and not as if it had never been stopped."
            )
            return
        loaders = list(self._loaders())
        for loader, place in zip(loaders, state["loaders"], strict=False):
            loader.load_state_dict(place)
        if not loaders:
            logger.warning("The train loader is not Detectron2's: it starts again from its start.")
        _set_metrics(trainer.storage, state["metrics"])
        for writer, (written, size) in zip(self._writers(), state["written"], strict=False):
            writer._last_write = written
            if isinstance(writer, JSONWriter):
                self.drop_metrics(size)
        self._restore_process(state["ranks"])
        self._restore_counts(state["ranks"])
        trainer.iter = trainer.storage.iter = last
        for hook in trainer._hooks[trainer._hooks.index(self) + 1 :]:
            if not isinstance(hook, hooks.PeriodicCheckpointer):
                hook.after_step()
        trainer.iter = trainer.storage.iter = trainer.start_iter

    def _restore_process(self, ranks: list[dict[str, Any]]) -> None:
        rank, world = comm.get_rank(), comm.get_world_size()
        if len(ranks) != world:
            logger.warning(
                "The checkpoint is of a run in %d process(es), this one has %d. The images "
                "continue in the same order. Random numbers of the model, batch statistics, the "
                "images that share a batch by aspect ratio, and rounding differ from those of the "
                "run that was stopped.",
                len(ranks),
                world,
            )
        else:
            buffers = dict(self._model().named_buffers())
            for name, value in ranks[rank]["buffers"].items():
                buffers[name].copy_(value)
        if rank < len(ranks):
            set_random_states(ranks[rank]["random"])
        modules = dict(self._model().named_modules())
        for name, value in ranks[rank % len(ranks)]["normalizers"].items():
            if name in modules:
                modules[name].loss_normalizer = value

    def _restore_counts(self, ranks: list[dict[str, Any]]) -> None:
        """Restore how many bad samples each process has had; the first one of another number of
        processes has them all."""
        counts, rank = [own.get("bad_samples", 0) for own in ranks], comm.get_rank()
        for loader in self._checked_loaders():
            same = len(ranks) == comm.get_world_size()
            loader.bad_samples = counts[rank] if same else sum(counts) if rank == 0 else 0

    def _model(self) -> nn.Module:
        model = cast(Any, self.trainer).model
        return model.module if isinstance(model, DistributedDataParallel) else model

    def _loaders(self) -> Iterator[TrainLoader]:
        trainer = cast(Any, self.trainer)
        precise = [hook for hook in trainer._hooks if isinstance(hook, hooks.PreciseBN)]
        found = [trainer._trainer.data_loader, *(hook._data_loader for hook in precise)]
        found = [one.loader if isinstance(one, CheckedLoader) else one for one in found]
        return (loader for loader in found if isinstance(loader, TrainLoader))

    def _checked_loaders(self) -> Iterator[CheckedLoader]:
        loader = cast(Any, self.trainer)._trainer.data_loader
        if isinstance(loader, CheckedLoader):
            yield loader

    def _writers(self) -> Iterator[Any]:
        """The writers that remember up to which iteration they have written."""
        for hook in cast(Any, self.trainer)._hooks:
            if isinstance(hook, hooks.PeriodicWriter):
                kinds = (JSONWriter, TensorboardXWriter)
                yield from (one for one in hook._writers if isinstance(one, kinds))

    def _metrics_size(self) -> int:
        path = os.path.join(self.run.output_dir, "metrics.json")
        return os.path.getsize(path) if os.path.isfile(path) else 0

    def drop_metrics(self, size: int = 0) -> None:
        """Remove the lines of iterations that are repeated from metrics.json, which is open to
        append, after its first ``size`` bytes."""
        if not comm.is_main_process():
            return
        path = os.path.join(self.run.output_dir, "metrics.json")
        if self._metrics_size() <= size:
            return
        with open(path, "rb") as file:
            file.seek(max(size - 1, 0))
            if size and file.read(1) != b"\n":  # not the file of the run that was stopped
                return
        os.truncate(path, size)


def _keep_other_buffers(ranks: list[dict[str, Any]]) -> None:
    """Keep only those buffers of a process that are not the first one's, which the checkpoint has.

    These are statistics of batch norms, as each process has its own.
    """
    first = ranks[0]["buffers"]
    for own in ranks:
        buffers = own["buffers"].items()
        own["buffers"] = {k: value for k, value in buffers if not torch.equal(value, first[k])}


def _loss_normalizers(model: nn.Module) -> dict[str, float]:
    """The moving averages of dense detectors, such as RetinaNet, which no state_dict has."""
    return {
        name: float(cast(Any, module).loss_normalizer)
        for name, module in model.named_modules()
        if isinstance(module, DenseDetector) and "loss_normalizer" in vars(module)
    }


def _get_metrics(storage: EventStorage) -> dict[str, Any]:
    """The metrics' latest values and those that writers still smooth over."""
    recent = {}
    for name, history in storage.histories().items():
        values = history.values()[-WINDOW * 100 :]
        values = [(value, at) for value, at in values if at > values[-1][1] - WINDOW]
        recent[name] = (values, history._count, history._global_avg)
    # Detectron2 measures no time in the first iterations, so these would be written as if new.
    latest = {k: v for k, v in storage.latest().items() if k not in ("time", "eta_seconds")}
    return {"latest": latest, "hints": dict(storage.smoothing_hints()), "recent": recent}


def _set_metrics(storage: EventStorage, metrics: dict[str, Any]) -> None:
    storage.latest().update(metrics["latest"])
    storage.smoothing_hints().update(metrics["hints"])
    for name, (values, total, mean) in metrics["recent"].items():
        history = HistoryBuffer()
        history._data, history._count, history._global_avg = list(values), total, mean
        storage.histories()[name] = history
