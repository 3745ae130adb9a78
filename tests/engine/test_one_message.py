"""How a process ends that fails: with one message, which those that did not cause it leave out."""

import logging
import signal
import sys

import pytest

from nl_detectron.engine import distributed
from nl_detectron.engine.distributed import is_first_on_machine, one_message
from nl_detectron.errors import UsageError

LOST = RuntimeError("[../third_party/gloo/transport/tcp/pair.cc:525] Connection closed by peer")
TORCHRUN = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


@pytest.fixture
def waited(monkeypatch):
    """The seconds that a process was silent, which pass at once."""
    seconds = []
    monkeypatch.setattr(distributed.time, "sleep", seconds.append)
    monkeypatch.setattr(sys, "argv", ["./train_net.py", "--num-gpus", "2"])
    for name in ("LOCAL_RANK", *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    return seconds


@pytest.fixture
def torchrun(monkeypatch, waited):
    """Makes this process one of torchrun's; returns the codes with which it exits."""

    class Exited(BaseException):
        pass

    def leave(code):
        raise Exited(code)

    def begin(local_rank):
        for name, value in {**TORCHRUN, "LOCAL_RANK": local_rank}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(distributed.os, "_exit", leave)
        return Exited

    return begin


def fail_with(error):
    with one_message():
        raise error


def test_a_users_mistake_is_one_line_and_exit_code_1(waited):
    with pytest.raises(SystemExit) as stop:
        fail_with(UsageError("give a file"))
    assert stop.value.code == "train_net.py: error: give a file"  # Python prints it, and exits 1
    assert waited == []


@pytest.mark.parametrize("local_rank", ["0", "1"])
def test_of_torchruns_processes_the_first_reports_a_mistake_at_once(
    local_rank, torchrun, waited, capsys
):
    exited = torchrun(local_rank)
    assert is_first_on_machine() == (local_rank == "0")
    with pytest.raises(exited, match="1"):
        fail_with(UsageError("give a file"))
    assert capsys.readouterr().err == "train_net.py: error: give a file\n"
    assert waited == ([] if local_rank == "0" else [distributed.GRACE_SECONDS])


def test_ctrl_c_is_one_line_and_exit_code_130(waited, capsys):
    with pytest.raises(SystemExit) as stop:
        fail_with(KeyboardInterrupt())
    assert stop.value.code == 128 + signal.SIGINT
    assert capsys.readouterr().err == "train_net.py: interrupted\n"


@pytest.mark.parametrize(("error", "seconds"), [(LOST, [15]), (ZeroDivisionError("own"), [])])
def test_a_process_that_lost_its_connection_lets_the_cause_be_reported_first(
    error, seconds, waited
):
    with pytest.raises(type(error)) as caught:
        fail_with(error)
    assert caught.value is error and waited == seconds


def record_of(error) -> logging.LogRecord:
    """What a logger would print of an error with its traceback."""
    return logging.LogRecord("x", 40, "", 0, "failed", (), (type(error), error, None))


def test_a_log_has_no_traceback_of_a_mistake_and_waits_with_a_lost_connection(waited):
    plain = logging.LogRecord("x", 20, "", 0, "iteration 3", (), None)
    errors = [record_of(error) for error in (UsageError("give a file"), LOST)]
    kept = [distributed._is_no_usage_error(one) for one in (plain, *errors)]
    assert kept == [True, False, True]
    assert all(distributed._delay_lost_connection(one) for one in (plain, *errors))
    assert waited == [distributed.GRACE_SECONDS]
