"""Stops a run on SIGTERM (pre-emption) and SIGINT (Ctrl-C) between two iterations."""

import multiprocessing
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist
from detectron2.utils import comm

SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Processes of a group may receive one Ctrl-C twice: from the terminal and from their launcher.
PATIENCE_SECONDS = 3


class Stopped(SystemExit):
    """A run was stopped by a signal. Its exit code is 128 plus the signal's number, as in a shell:
    143 for SIGTERM, 130 for SIGINT."""

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.signal = number


class StopSignals:
    """Within this context, SIGTERM and SIGINT do not end the process but are noted.

    A second SIGINT ends it at once, with exit code 130. All processes of a run must enter the
    context together.
    """

    def __init__(self):
        self.received, self._since = 0, 0.0  # number of the first signal, and when it came
        self._handlers, self._pending = {}, None
        self._group: Any = None  # of gloo, if there are several processes

    def __enter__(self) -> "StopSignals":
        try:
            self._handlers = {one: signal.signal(one, self._receive) for one in SIGNALS}
        except ValueError:  # signals are for the main thread only
            self._handlers = {}
        if comm.get_world_size() > 1:
            self._group = dist.new_group(backend="gloo")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_) -> None:
        for one, handler in self._handlers.items():
            signal.signal(one, handler)
        if self._pending and kind in (None, Stopped):  # else another process may be gone
            self._pending[0].wait()
            dist.destroy_process_group(self._group)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            patience = PATIENCE_SECONDS if self._group else 0
            if number == signal.SIGINT and time.monotonic() - self._since >= patience:
                os._exit(128 + number)
            return
        self.received, self._since = number, time.monotonic()
        if number == signal.SIGINT and comm.is_main_process():
            note = "\nStopping after this iteration; another Ctrl-C ends the run at once.\n"
            os.write(2, note.encode())  # a handler must not use buffered streams

    def agree(self) -> int:
        """Return the number of the signal that stops the run now, or 0.

        Every process must call it once in each iteration, and all get the same. In a group they
        reduce their signals on the CPU while the next iteration runs, so none waits for it.
        """
        if self._group is None:
            return self.received
        flag = torch.tensor([self.received])
        work = dist.all_reduce(flag, dist.ReduceOp.MAX, group=self._group, async_op=True)
        before, self._pending = self._pending, (work, flag)
        if before is None:
            return 0
        before[0].wait()
        return int(before[1])


@contextmanager
def pass_signals_on() -> Iterator[Any]:
    """In a launcher: pass SIGTERM and SIGINT on to its processes, which decide when to end.

    A second SIGINT kills them and the launcher. Yields an integer in shared memory whose ``value``
    is the number of the first signal, or 0. Processes that start later must look at it.
    """
    received = multiprocessing.get_context("spawn").RawValue("i", 0)

    def receive(number: int, frame: FrameType | None) -> None:
        again = number == signal.SIGINT and bool(received.value)
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL if again else number)
        if again:
            os._exit(128 + number)
        received.value = received.value or number

    handlers = {one: signal.signal(one, receive) for one in SIGNALS}
    try:
        yield received
    finally:
        for one, handler in handlers.items():
            signal.signal(one, handler)


def block_ctrl_c() -> None:
    """Let SIGINT wait, in this thread and in processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def unblock_ctrl_c() -> None:
    """Receive SIGINT again, also one that came meanwhile."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def resume_command(output_dir: str) -> str:
    """The command that continues this process's run.

    For a program other than train_net.py it is one that trains from the config in its output
    folder.
    """
    words = sys.argv
    if os.path.basename(words[0]) != "train_net.py":
        config = os.path.join(output_dir, "config.yaml")
        words = ["train_net.py", "--config-file", config]
    if "--resume" not in words:
        words = [words[0], "--resume", *words[1:]]
    start = ["torchrun", "…"] if "TORCHELASTIC_RUN_ID" in os.environ else ["python"]
    return " ".join([*start, shlex.join(words)])
