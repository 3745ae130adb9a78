"""Worker processes of data loaders: which signals end them."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from multiprocessing import resource_tracker
from threading import Thread
from typing import Any, cast

from torch import multiprocessing
from torch.utils.data import DataLoader

from ..data.bad_samples import CheckedLoader


def init_worker(init: Callable[[int], None] | None, worker_id: int) -> None:
    """Let a data loader's worker live exactly as long as its parent needs it.

    On Linux it ends when its parent does, even if that was killed. SIGINT, which Ctrl-C sends to
    all processes of a terminal, does not end it, nor does a SIGTERM that its parent did not send:
    batch systems send one to all processes of a job, and the parent then still needs its batches.

    Args:
        init: the data loader's own ``worker_init_fn``.
        worker_id: the worker's number.
    """
    parent = os.getppid()
    # private, but portable: PyTorch calls it for the processes that it spawns
    cast(Any, multiprocessing)._prctl_pr_set_pdeathsig(signal.SIGKILL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # not on macOS
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_exit_on_sigterm_from, args=(parent,), daemon=True).start()
    if init:
        init(worker_id)


def _exit_on_sigterm_from(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)  # as PyTorch's own handler: another code would be reported as a failure


class ProtectedLoader:
    """A data loader whose workers have the signals of :func:`init_worker` from their start."""

    def __init__(self, loader: DataLoader):
        loader.worker_init_fn = partial(init_worker, loader.worker_init_fn)
        self.loader = loader

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Starts the workers, which begin with blocked signals: those that a group of processes
        gets would end them until :func:`init_worker`, for seconds if they import packages first."""
        if self.loader.num_workers and _start_method(self.loader) != "fork":
            resource_tracker.ensure_running()  # starting it unblocks signals
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            return iter(self.loader)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_method(loader: DataLoader) -> str | None:
    return (loader.multiprocessing_context or multiprocessing).get_start_method()


def protect_workers(loader: Iterable) -> Iterable:
    """Return a :class:`ProtectedLoader` of a ``DataLoader``, also within a ``CheckedLoader``; any
    other loader as it is."""
    if isinstance(loader, CheckedLoader):
        loader.loader = protect_workers(loader.loader)
        return loader
    return ProtectedLoader(loader) if isinstance(loader, DataLoader) else loader
