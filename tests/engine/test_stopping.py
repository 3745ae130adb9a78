"""Signals that stop a run, the command that continues it, and workers that end with their run."""

import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader

from nl_detectron.engine import stopping
from nl_detectron.engine.stopping import StopSignals, resume_command
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
