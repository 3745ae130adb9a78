"""Worker processes of data loaders: which signals end them."""

import os
import signal
from collections.abc import Callable, Iterable
from functools import partial
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


def protect_workers(loader: Iterable) -> Iterable:
    """Give the workers of a ``DataLoader`` the signals of :func:`init_worker`; returns it."""
    if isinstance(loader, CheckedLoader):
        protect_workers(loader.loader)
    if isinstance(loader, DataLoader):
        loader.worker_init_fn = partial(init_worker, loader.worker_init_fn)
    return loader
