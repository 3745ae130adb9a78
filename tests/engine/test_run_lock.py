"""The lock on a run's folder: what it refuses, and what it takes over from the dead."""

import errno
import fcntl
import json
import os
import signal
from argparse import Namespace
from contextlib import contextmanager

import pytest

from nl_detectron.engine import run_lock, start_run
from nl_detectron.engine.run_lock import describe_owner, lock_folder, unlock_folder
from nl_detectron.errors import UsageError


@pytest.fixture
def lock(tmp_path):
    """Locks ``tmp_path``, and unlocks it after the test."""
    yield lambda: lock_folder(str(tmp_path), "OUTPUT_DIR")
    unlock_folder(str(tmp_path))


@contextmanager
def other_run(folder):
    """Another process that has locked a folder; killed and reaped at the end."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        try:
            lock_folder(str(folder), "OUTPUT_DIR")
            os.write(write, b"locked")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(write)
        assert os.read(read, 6) == b"locked"
        yield child
    finally:
        os.close(read)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def owner(folder) -> dict:
    return json.loads((folder / ".lock").read_text())


def pretend(folder, **changes) -> None:
    """Leave the lock file of another run, which no process has locked."""
    process = {**run_lock._describe_process(), "pid": os.getppid(), **changes}
    if "process_start" not in changes:
        process["process_start"] = run_lock._read_start(process["pid"])
    (folder / ".lock").write_text(json.dumps(process))


def test_a_lock_names_its_process_and_goes_with_it(tmp_path, lock):
    assert lock() == ""
    assert owner(tmp_path)["pid"] == os.getpid()
    assert lock() == ""  # a process does not exclude itself
    unlock_folder(str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_another_run_is_named(tmp_path, lock):
    with other_run(tmp_path) as child:
        with pytest.raises(UsageError, match=f"is in use by another run: process {child} on ") as e:
            lock()
        assert f"since {owner(tmp_path)['since']}" in str(e.value)
        assert "remove" not in str(e.value) and "another OUTPUT_DIR" in str(e.value)


def test_the_lock_of_a_killed_run_is_taken_over(tmp_path, lock):
    with other_run(tmp_path) as child:
        pass
    assert f"of a run that is dead: process {child} on " in lock()
    assert owner(tmp_path)["pid"] == os.getpid()


def test_a_killed_process_that_nobody_has_reaped_is_dead(tmp_path, lock):
    with other_run(tmp_path) as child:
        os.kill(child, signal.SIGKILL)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # a zombie from here on
        assert f"process {child} on " in lock()


def test_a_process_of_the_same_number_is_not_the_dead_run(tmp_path, lock):
    pretend(tmp_path, process_start="1")
    assert "of a run that is dead" in lock()


def test_a_living_process_keeps_its_folder_where_its_lock_was_lost(tmp_path, lock):
    pretend(tmp_path)
    with pytest.raises(UsageError, match=f"process {os.getppid()} on "):
        lock()


def test_another_users_process_keeps_its_folder_where_its_lock_was_lost(
    tmp_path, lock, monkeypatch
):
    def kill(*_):
        raise PermissionError

    pretend(tmp_path)
    monkeypatch.setattr(run_lock.os, "kill", kill)
    with pytest.raises(UsageError, match=f"process {os.getppid()} on "):
        lock()


@pytest.mark.parametrize("pid", ["none", 2**22 + 1])
def test_a_folder_of_no_living_process_has_no_owner(tmp_path, pid):
    assert describe_owner(str(tmp_path)) == ""
    pretend(tmp_path, pid=pid, process_start=None)
    assert describe_owner(str(tmp_path)) == ""


def test_another_hosts_lock_is_taken_over_if_no_process_holds_it(tmp_path, lock):
    pretend(tmp_path, host="elsewhere")
    assert "on elsewhere, since" in lock()


@pytest.mark.parametrize("host", [None, "elsewhere"])
def test_without_locks_of_the_file_system_the_file_decides(tmp_path, lock, host, monkeypatch):
    def lockf(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", lockf)
    pretend(tmp_path, **({"host": host} if host else {}))
    with pytest.raises(UsageError, match="is in use") as caught:
        lock()
    advice = f"if that run is dead, remove {tmp_path / '.lock'}"
    assert (advice in str(caught.value)) == (host == "elsewhere")
    pretend(tmp_path, pid=2**22 + 1)
    assert "of a run that is dead" in lock()


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_a_lock_file_that_says_nothing_excludes_nobody(tmp_path, lock, text):
    (tmp_path / ".lock").write_text(text)
    assert lock() == ""


def test_a_refused_run_writes_nothing_and_an_evaluation_is_not_refused(
    tiny_config, tmp_path, monkeypatch, restore_loggers
):
    called = []
    monkeypatch.setattr("nl_detectron.engine.setup.default_setup", lambda *_: called.append(1))
    (tmp_path / "config.yaml").write_text("of the other run")
    with other_run(tmp_path), restore_loggers():
        with pytest.raises(UsageError, match="is in use"):
            start_run(tiny_config(tmp_path), Namespace(eval_only=False))
        assert not called
        assert {path.name for path in tmp_path.iterdir()} == {".lock", "config.yaml"}
        start_run(tiny_config(tmp_path), Namespace(eval_only=True))
    assert called


@pytest.mark.slow
def test_an_evaluation_leaves_config_and_log_of_a_running_training(
    tiny_of_kind, tmp_path, restore_loggers
):
    for kind in ("yaml", "lazy"):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "config.yaml").write_text("of the other run")
        with other_run(folder), restore_loggers():
            start_run(tiny_of_kind(kind, folder), Namespace(eval_only=True))
            assert {path.name for path in folder.iterdir()} == {".lock", "config.yaml"}
        assert (folder / "config.yaml").read_text() == "of the other run"
