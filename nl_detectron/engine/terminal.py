"""What a run prints: on the terminal only what a user reads, in its log file everything."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from detectron2.engine import HookBase, hooks
from detectron2.utils.events import CommonMetricPrinter, EventWriter
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

LOGGERS = ("detectron2", "fvcore", "nl_detectron")
# beginnings of messages that only the log file gets, whose authors are Detectron2 and fvcore
FILE_ONLY = (
    "Environment info:",
    "Command line arguments:",
    "Contents of args.config_file=",
    "Running with full config:",
    "Full config saved to ",
    "Rank of current process: 0. World size: 1",
    "[DetectionCheckpointer] Loading from ",
    "[Checkpointer] Loading from ",
    "No predictions from the model!",  # explain_nothing_found says more
    "\nCategory ids in annotations are not in ",
)
SECONDS = 15  # between two lines of losses, at most
LINES = 10  # of losses in a short run, at least


def _is_for_terminal(record: logging.LogRecord) -> bool:
    """A filter of the terminal's handlers."""
    return not str(record.msg).startswith(FILE_ONLY)


def set_up_loggers(output_dir: str | None, rank: int) -> None:
    """Set Detectron2's loggers up as its ``default_setup`` does, which then finds them set up, and
    keep long messages off the terminal."""
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    setup_logger(output_dir, distributed_rank=rank)
    for handler in _terminal_handlers():
        handler.addFilter(_is_for_terminal)


def _terminal_handlers() -> Iterator[logging.Handler]:
    for name in LOGGERS:
        for handler in logging.getLogger(name).handlers:
            if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
                yield handler


class TimelyWriter(hooks.PeriodicWriter):
    """Detectron2's ``PeriodicWriter``, which here also prints losses of a run's first iteration,
    after 15 seconds without a line, and about ten times in a short run.

    The files (metrics.json, TensorBoard) are written after each period, as in Detectron2.
    """

    def __init__(self, writers: Sequence[EventWriter], period: int):
        super().__init__(writers, period=period)
        self._printed = 0.0  # when losses were printed last
        self._ends_with_a_line = False  # whether that was after the last iteration

    def after_train(self) -> None:
        for writer in self._writers:  # a printer's second line of an iteration would divide by 0
            if not (isinstance(writer, CommonMetricPrinter) and self._ends_with_a_line):
                writer.write()
            writer.close()

    def after_step(self) -> None:
        super().after_step()
        self._ends_with_a_line = False
        trainer, now = self.trainer, time.monotonic()
        done, last = trainer.iter + 1, trainer.max_iter
        if done % self._period == 0 or done == last:
            self._printed = now
            return
        own = last - trainer.start_iter
        often = max(1, own // LINES) if own < LINES * self._period else self._period
        first = done == trainer.start_iter + 1
        if first or done % often == 0 or now - self._printed >= SECONDS:
            self._printed, self._ends_with_a_line = now, True
            for writer in _printers(self._writers):
                writer.write()


def _printers(writers: Iterable[EventWriter]) -> Iterator[EventWriter]:
    return (writer for writer in writers if isinstance(writer, CommonMetricPrinter))


class ProgressBar(HookBase):
    """A bar with the time left on a terminal; nothing where the output is a file or a pipe."""

    def __init__(self):
        self._bar: Any = None

    def before_train(self) -> None:
        trainer = self.trainer
        if not sys.stdout.isatty():
            return
        self._bar = tqdm(
            total=trainer.max_iter,
            initial=trainer.start_iter,
            unit="iteration",
            leave=False,
            dynamic_ncols=True,
            file=sys.stdout,
        )
        for handler in _terminal_handlers():
            handler.addFilter(self._clear)

    def after_step(self) -> None:
        if self._bar is not None:
            self._bar.update()

    def after_train(self) -> None:
        if self._bar is not None:
            self._bar.close()
            for handler in _terminal_handlers():
                handler.removeFilter(self._clear)

    def _clear(self, record: logging.LogRecord) -> bool:
        """A filter that makes room for a line; the bar's next update draws it again below."""
        self._bar.clear()
        return True
