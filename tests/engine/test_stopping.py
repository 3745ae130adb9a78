"""Signals that stop a run, the command that continues it, and workers that end with their run."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from nl_detectron.engine import stopping
from nl_detectron.engine.stopping import StopSignals, pass_signals_on, resume_command
from nl_detectron.engine.workers import protect_workers


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    codes = []
    monkeypatch.setattr(stopping.os, "_exit", codes.append)
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert signals.agree() == signal.SIGTERM and codes == []
        os.kill(os.getpid(), signal.SIGINT)
    assert codes == [130]


def test_the_command_keeps_its_words(monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    monkeypatch.setattr(sys, "argv", ["./train_net.py", "--resume", "--config-file", "a b.yaml"])
    assert resume_command("out") == "python ./train_net.py --resume --config-file 'a b.yaml'"
    monkeypatch.setattr(sys, "argv", ["demo.py"])
    expected = "python train_net.py --resume --config-file out/config.yaml"
    assert resume_command("out") == expected


@pytest.mark.parametrize(
    ("words", "torchrun", "expected"),
    [
        ("/bin/nl-detectron train --config-file a.yaml", False, "nl-detectron train --resume"),
        ("/bin/nl-detectron reproduce table1", False, "nl-detectron train --resume"),
        ("train_net.py --config-file a.yaml", True, "torchrun … train_net.py --resume"),
        (
            "/lib/nl_detectron_cli/__main__.py train --config-file a.yaml",
            True,
            "torchrun … -m nl_detectron_cli train --resume",
        ),
    ],
)
def test_the_command_is_the_users_own(words, torchrun, expected, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    if torchrun:
        monkeypatch.setenv("TORCHELASTIC_RUN_ID", "7")
    monkeypatch.setattr(sys, "argv", words.split())
    file = "out/config.yaml" if "reproduce" in words else "a.yaml"
    assert resume_command("out") == f"{expected} --config-file {file}"


def test_a_run_in_another_thread_leaves_signals_alone():
    """Only the main thread can receive them."""
    before, found = signal.getsignal(signal.SIGTERM), []

    def run():
        with StopSignals() as signals:
            found.extend([signals.agree(), signal.getsignal(signal.SIGTERM)])

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert found == [0, before] and signal.getsignal(signal.SIGTERM) == before


def _ignore_ctrl_c(pipe):
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe.send("ready")
    time.sleep(60)


def test_a_second_ctrl_c_kills_the_processes_of_a_launcher(monkeypatch):
    codes, before = [], signal.getsignal(signal.SIGINT)
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=_ignore_ctrl_c, args=(theirs,))
    process.start()
    assert ours.recv() == "ready"
    monkeypatch.setattr(stopping.os, "_exit", codes.append)
    with pass_signals_on() as received:
        os.kill(os.getpid(), signal.SIGINT)
        process.join(0.1)
        assert process.is_alive() and received.value == signal.SIGINT and codes == []
        os.kill(os.getpid(), signal.SIGINT)
        process.join(10)
        assert process.exitcode == -signal.SIGKILL and codes == [130]
    assert signal.getsignal(signal.SIGINT) == before


class Pids(torch.utils.data.Dataset):
    def __getitem__(self, index):
        time.sleep(0.01)
        return os.getpid()


def _load(pipe):
    """Load with two workers: send their ids, load more after a message, and wait for another."""
    loader = DataLoader(Pids(), sampler=range(10**6), batch_size=None, num_workers=2)
    batches = iter(protect_workers(loader))
    for count in (4, 12):
        pipe.send({next(batches) for _ in range(count)})
        pipe.recv()
    del batches  # ends the workers


def _lives(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("killed", [False, True])
def test_workers_live_as_long_as_their_parent(killed):
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    parent = context.Process(target=_load, args=(theirs,))
    parent.start()
    theirs.close()
    workers = ours.recv()
    for worker in workers:  # as a terminal and a batch system do
        os.kill(worker, signal.SIGINT)
        os.kill(worker, signal.SIGTERM)
    ours.send("more")
    assert ours.recv() == workers and len(workers) == 2
    parent.kill() if killed else ours.send("enough")
    parent.join()
    until = time.monotonic() + 4  # PyTorch's own workers look every 5 seconds
    while any(map(_lives, workers)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not any(map(_lives, workers))
    assert parent.exitcode == (-signal.SIGKILL if killed else 0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_does_not_end_a_worker_that_is_starting(number):
    """As a terminal and a batch system send it, while a spawned worker imports its packages."""
    options = {"batch_size": None, "num_workers": 1, "multiprocessing_context": "spawn"}
    loader = protect_workers(DataLoader(Pids(), sampler=range(4), **options))
    before = set(multiprocessing.active_children())
    batches = iter(loader)
    [worker] = set(multiprocessing.active_children()) - before
    kill = f"import os; os.kill({worker.pid}, {int(number)})"  # a parent's own SIGTERM ends it
    subprocess.run([sys.executable, "-c", kill], check=True)
    assert [*batches] == [worker.pid] * 4
    assert len(loader) == 4
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
