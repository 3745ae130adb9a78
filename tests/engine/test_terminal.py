"""What a run prints: losses in time, a bar on a terminal, and no pages of config."""

import io
import logging
import sys
from types import SimpleNamespace

import pytest
from detectron2.utils.events import CommonMetricPrinter, EventWriter

from nl_detectron.engine import terminal
from nl_detectron.engine.terminal import ProgressBar, TimelyWriter


@pytest.mark.slow
def test_the_terminal_gets_a_line_for_the_config_and_losses_at_once(
    tiny_config, train, tmp_path, capfd
):
    train(tiny_config(tmp_path, "SOLVER.MAX_ITER", 3, "DATASETS.TEST", "()"))
    printed = capfd.readouterr().out.splitlines()
    log = (tmp_path / "log.txt").read_text()
    for start in ("Environment info:", "Running with full config:", "Command line arguments:"):
        assert start in log and not any(start in line for line in printed)
    (where,) = (line for line in printed if str(tmp_path / "config.yaml") in line)
    assert "log.txt" in where
    losses = [number for number, line in enumerate(printed) if "total_loss: " in line]
    assert [printed[n].split("iter: ")[1].split()[0] for n in losses] == ["0", "1", "2"]
    assert losses[0] < 35
    assert not any("Category ids in annotations" in line for line in printed)


class Printer(CommonMetricPrinter):
    def __init__(self, trainer):
        self.trainer, self.written = trainer, []

    def write(self):
        self.written.append(self.trainer.iter + 1)


class File(EventWriter):
    __init__, write = Printer.__init__, Printer.write


@pytest.fixture
def iterate(monkeypatch):
    """Runs the writer through iterations of some seconds; returns the iterations that a printer and
    a file were written at."""

    def run(start, last, period, seconds):
        trainer = SimpleNamespace(iter=start, start_iter=start, max_iter=last)
        printer = Printer(trainer)
        file = File(trainer)
        hook = TimelyWriter([printer, file], period)
        hook.trainer = trainer
        for trainer.iter in range(start, last):
            now = 1000 + seconds * (trainer.iter + 1 - start)
            monkeypatch.setattr(terminal.time, "monotonic", lambda now=now: now)
            hook.after_step()
        return printer.written, file.written

    return run


@pytest.mark.parametrize(
    ("start", "last", "seconds", "printed", "written"),
    [
        (0, 1000, 0.01, [1, *range(20, 1001, 20)], range(20, 1001, 20)),
        (0, 12, 0.01, range(1, 13), [12]),  # short
        (0, 1000, 10.0, [1, *range(3, 20, 2), 20], [20]),  # slow: every second one
        (100, 130, 0.01, [101, *range(102, 131, 3)], [120, 130]),  # resumed
    ],
)
def test_losses_are_printed_in_time_and_files_are_written_as_ever(
    start, last, seconds, printed, written, iterate
):
    on_terminal, in_files = iterate(start, last, 20, seconds)
    if seconds > 1:
        on_terminal, in_files = on_terminal[: len(list(printed))], in_files[:1]
    if start:
        assert on_terminal[0] == 101 and len(on_terminal) >= 10
    else:
        assert on_terminal == list(printed)
    assert in_files == list(written)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("out", [Terminal(), io.StringIO()], ids=["terminal", "file"])
def test_a_terminal_has_a_bar_with_the_time_left(out, monkeypatch):
    monkeypatch.setattr(sys, "stdout", out)
    bar = ProgressBar()
    bar.trainer = SimpleNamespace(start_iter=10, max_iter=20)
    bar.before_train()
    for _ in range(10):
        bar.after_step()
    bar.after_train()
    text = out.getvalue()
    assert ("| 10/20 [" in text and "<" in text) == out.isatty()
    assert out.isatty() or text == ""


def test_a_line_of_the_log_takes_the_place_of_the_bar(monkeypatch):
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    log, handler = logging.getLogger("nl_detectron"), logging.StreamHandler(out)
    log.addHandler(handler)
    try:
        bar = ProgressBar()
        bar.trainer = SimpleNamespace(start_iter=0, max_iter=3)
        bar.before_train()
        bar.after_step()
        log.warning("a line of losses")
        bar.after_train()
        log.warning("the end")
    finally:
        log.removeHandler(handler)
    assert "\ra line of losses\n" in out.getvalue()
    assert handler.filters == []
