"""A process that fails ends the run of two with one message."""

import multiprocessing
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path

import failing_processes
import pytest
from distributed_runs import TORCHRUN

from nl_detectron.engine import distributed
from nl_detectron.engine.stopping import Stopped
from nl_detectron.errors import UsageError

pytestmark = pytest.mark.several


def seconds_since_failure(folder: Path) -> float:
    return time.time() - float((folder / "failed").read_text())


@pytest.mark.parametrize(
    "how, message", [("kill", "rank 1 ended with SIGKILL"), ("raise", "ZeroDivisionError: of the")]
)
def test_a_process_that_fails_ends_the_run_with_its_own_message(
    two_processes, how, message, tmp_path, capfd
):
    with pytest.raises((UsageError, SystemExit), match=message):
        two_processes(failing_processes.fail, how, tmp_path)
    assert seconds_since_failure(tmp_path) < 60
    # the other process lost its connection, which would only hide the reason
    assert "/gloo/" not in "".join(capfd.readouterr())


def test_a_mistake_that_every_process_meets_is_one_line(two_processes, tmp_path, capfd):
    with pytest.raises(SystemExit) as stop:
        two_processes(failing_processes.fail, "mistake", tmp_path)
    assert stop.value.code == 1
    printed = "".join(capfd.readouterr())
    assert printed.count("error: the same in every process") == 1
    assert "Traceback" not in printed


def test_a_loss_that_is_not_finite_stops_both(two_processes, capfd):
    with pytest.raises(SystemExit) as stop:
        two_processes(failing_processes.lose_a_number)
    assert stop.value.code == 1
    printed = "".join(capfd.readouterr())
    message = (
        r"iteration 1: loss is nan; .*the model \(NamedToy\)\. Images: 1_of_1\.png \(id \?\)\."
    )
    assert len(re.findall(message, printed)) == printed.count("training stopped") == 1
    assert "Traceback" not in printed


def test_torchrun_ends_a_run_of_which_a_process_fails(environment, tmp_path):
    words = [*TORCHRUN, str(Path(failing_processes.__file__)), "raise", str(tmp_path)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode != 0
    assert seconds_since_failure(tmp_path) < 60
    assert "ZeroDivisionError: of the second process" in done.stderr
    assert "/gloo/" not in done.stdout + done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_first_process_stops_the_run(
    two_processes, number, tmp_path, monkeypatch
):
    start = distributed.launch_processes

    def start_late(*args, **options):
        os.kill(os.getpid(), number)
        time.sleep(0.2)
        start(*args, **options)

    monkeypatch.setattr(distributed, "launch_processes", start_late)
    with pytest.raises(Stopped) as stop:
        two_processes(failing_processes.leave_a_file, tmp_path)
    assert stop.value.code == 128 + number
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_processes_start_is_no_traceback(two_processes, tmp_path, capfd):
    def interrupt():
        while len(started := multiprocessing.active_children()) < 2:
            time.sleep(0.01)
        time.sleep(0.5)  # Python has started, and imports
        for pid in (os.getpid(), *(process.pid for process in started)):  # as a terminal does
            os.kill(pid, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(Stopped) as stop:
        two_processes(failing_processes.leave_a_file, tmp_path)
    thread.join()
    assert stop.value.code == 130
    assert "Traceback" not in "".join(capfd.readouterr())
