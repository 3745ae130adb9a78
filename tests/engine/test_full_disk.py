"""A full disk ends a run with one message, without partial files or tracebacks."""

import errno
import logging
import os
import resource
import subprocess
from pathlib import Path

import pytest
import torch
from detectron2.engine import HookBase, TrainerBase, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils.events import JSONWriter, TensorboardXWriter
from torch import nn

from nl_detectron.engine import Checkpointer, Trainer, checkpoint_files, evaluate, start_run
from nl_detectron.engine.atomic_files import WriteError, write_text
from nl_detectron.engine.full_disk import quiet_full_logs, report_full_disk
from nl_detectron.errors import UsageError

FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of 1 MiB; skips where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this user may not mount a file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def run(tmp_path):
    """A folder with a checkpoint of 64 KiB."""
    Checkpointer(nn.Linear(128, 128), str(tmp_path)).save("model_0000001")
    return tmp_path


def save_too_much(folder: Path) -> None:
    """Save a model of 4 MiB over the checkpoint of iteration 1, and under a new name."""
    checkpointer = Checkpointer(nn.Linear(1024, 1024), str(folder))
    for name in ("model_0000001", "model_0000003"):
        with pytest.raises(WriteError, match=r"after 0\.\d of 4\.0 MiB") as caught:
            checkpointer.save(name)
        assert caught.value.filename == str(folder / f"{name}.pth")


def check_untouched(folder: Path) -> None:
    files = {"model_0000001.pth", "model_0000001.pth.sha256", "last_checkpoint"}
    assert {path.name for path in folder.iterdir()} == files
    model = nn.Linear(128, 128)
    checkpointer = Checkpointer(model, str(folder))
    checkpointer.resume_or_load("", resume=True)
    assert not checkpointer.fresh


def test_a_checkpoint_that_does_not_fit_leaves_the_last_one(small_disk):
    Checkpointer(nn.Linear(128, 128), str(small_disk)).save("model_0000001")
    save_too_much(small_disk)
    check_untouched(small_disk)
    with pytest.raises(UsageError) as caught, report_full_disk(str(small_disk)):
        Checkpointer(nn.Linear(1024, 1024), str(small_disk)).save("model_0000003")
    said = str(caught.value)
    assert f"cannot write {small_disk / 'model_0000003.pth'}: No space left on device" in said
    assert "0.9 MiB are free there, and a checkpoint takes 0.1 MiB" in said
    assert f"--resume continues from {small_disk / 'model_0000001.pth'}" in said


def test_a_limit_of_a_files_size_is_like_a_full_disk(run):
    child = os.fork()
    if not child:
        code = 1
        try:
            torch.set_num_threads(1)  # a forked process lacks the pool of threads
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, 2**19))
            save_too_much(run)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    check_untouched(run)


# --- in a training ---------------------------------------------------------------------------


class Steps(TrainerBase):
    """A training loop that only counts."""

    def run_step(self) -> None:
        self.storage.put_scalar("loss", 1.0)


def train_steps(folder: Path, *writers, after_step=lambda: None) -> str:
    """Train for 4 iterations, and return the message."""

    class Hook(HookBase):
        def after_step(self):
            after_step()

    trainer = Steps()
    trainer.register_hooks([Hook(), hooks.PeriodicWriter(writers, period=1)])
    with pytest.raises(UsageError) as caught, report_full_disk(str(folder)):
        trainer.train(0, 4)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def quiet(capfd, caplog):
    """Requires that nothing was printed or logged as an error."""
    yield
    assert "Traceback" not in "".join(capfd.readouterr())
    assert not [r for r in caplog.get_records("call") if r.exc_info]


@pytest.mark.usefixtures("quiet")
def test_metrics_that_cannot_be_written_end_the_run(run):
    said = train_steps(run, JSONWriter("/dev/full"))  # a device that is always full
    assert f"cannot write the run's files in {run}: No space left on device" in said
    assert f"--resume continues from {run / 'model_0000001.pth'}" in said


@pytest.mark.usefixtures("quiet")
def test_events_that_cannot_be_written_end_the_run(small_disk):
    def fill():
        with pytest.raises(OSError), open(small_disk / "filled", "ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    said = train_steps(small_disk, TensorboardXWriter(str(small_disk)), after_step=fill)
    assert "No space left on device" in said and "start the run again" in said


@pytest.mark.usefixtures("quiet")
def test_the_first_error_is_the_one_that_is_reported(run):
    def fail():
        raise WriteError(errno.ENOSPC, "No space left on device", "model_0000003.pth")

    assert "cannot write model_0000003.pth" in train_steps(
        run, JSONWriter("/dev/full"), after_step=fail
    )


def test_another_error_is_not_hidden_by_a_full_disk(run, caplog):
    def fail():
        raise MemoryError

    with pytest.raises(OSError, match="No space left") as caught:
        train_steps(run, JSONWriter("/dev/full"), after_step=fail)
    assert isinstance(caught.value.__context__, MemoryError)
    assert any(r.exc_info for r in caplog.records)


def test_a_log_that_cannot_be_written_prints_nothing(capfd):
    log = logging.Logger("full")
    with pytest.raises(OSError), open("/dev/full", "a") as file:  # closing it fails once more
        log.addHandler(logging.StreamHandler(file))
        quiet_full_logs([log])
        log.error("a line")
        assert not capfd.readouterr().err
        log.error("%d", "no number")
        assert "TypeError" in capfd.readouterr().err  # a mistake in a call is still printed


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
def test_a_run_stops_where_a_checkpoint_cannot_be_written(
    tiny_config, train, tmp_path, monkeypatch
):
    write = checkpoint_files._HashingWriter.write

    def write_until_full(self, data):
        if self.count > 2**14 and (tmp_path / "last_checkpoint").exists():
            raise FULL
        return write(self, data)

    monkeypatch.setattr(checkpoint_files._HashingWriter, "write", write_until_full)
    periods = ("SOLVER.MAX_ITER", 3, "SOLVER.CHECKPOINT_PERIOD", 1, "DATASETS.TEST", "()")
    with pytest.raises(UsageError, match=r"cannot write .*model_0000001\.pth: No space left on"):
        train(tiny_config(tmp_path, *periods))
    assert {p.name for p in tmp_path.glob("*.pth*")} == {
        "model_0000000.pth",
        "model_0000000.pth.sha256",
    }
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    assert not (tmp_path / "summary.json").exists()


def test_an_evaluation_on_a_full_disk_prints_one_message(
    small_disk, tiny_config, arguments, restore_loggers, capfd
):
    with pytest.raises(OSError), open(small_disk / "rest", "wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    with restore_loggers(), pytest.raises(UsageError, match="No space left on device"):
        start_run(tiny_config(small_disk), arguments("--eval-only"))
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.usefixtures("quiet")
def test_an_evaluation_that_cannot_be_written_leaves_no_part_of_it(
    tiny_config, tmp_path, monkeypatch
):
    results = tmp_path / "inference"
    results.mkdir()
    (results / "of_before.json").write_text("[]")
    os.utime(results / "of_before.json", (1, 1))

    class Full(DatasetEvaluator):
        def evaluate(self):
            (results / "part.json").write_text("[")
            raise FULL

    monkeypatch.setattr(Trainer, "build_evaluator", lambda *_: Full())
    cfg = tiny_config(tmp_path)
    Checkpointer(Trainer.build_model(cfg), str(tmp_path)).save("model_final")
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(tmp_path / "model_final.pth")
    with pytest.raises(UsageError, match=r"No space left on device.*; then evaluate again$"):
        evaluate(cfg)
    assert [path.name for path in results.iterdir()] == ["of_before.json"]


def test_a_text_that_cannot_be_written_names_its_file(tmp_path):
    path = str(tmp_path / "gone" / "summary.json")
    with pytest.raises(WriteError) as caught:
        write_text(path, "{}")
    assert (caught.value.filename, caught.value.errno) == (path, errno.ENOENT)
