"""Checkpoint files: a kill or damage costs a run no more than the iterations since the last one."""

import hashlib
import logging
import os
import pickle
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from nl_detectron.engine import Checkpointer
from nl_detectron.engine.atomic_files import remove_temporary_files
from nl_detectron.engine.checkpoint_files import list_checkpoints, remove_old_checkpoints
from nl_detectron.engine.periodic_checkpoints import PeriodicCheckpointer
from nl_detectron.errors import UsageError


class State:
    """A trainer's state, as far as checkpoints go."""

    def __init__(self, iteration: int = -1):
        self.iteration = iteration

    def state_dict(self) -> dict:
        return {"iteration": self.iteration}

    def load_state_dict(self, state: dict) -> None:
        self.iteration = state["iteration"]


def save(folder: Path, name: str, iteration: int) -> None:
    """Save a model whose weights are the number of the iteration."""
    model = nn.Linear(64, 64)
    nn.init.constant_(model.weight, iteration)
    Checkpointer(model, str(folder), trainer=State(iteration)).save(name)


def resume(folder: Path) -> int:
    """Resume a run; returns its iteration, -1 for a new run."""
    model, state = nn.Linear(64, 64), State()
    Checkpointer(model, str(folder), trainer=state).resume_or_load("", resume=True)
    assert state.iteration == -1 or (model.weight == state.iteration).all()
    return state.iteration


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture
def run(tmp_path):
    """The folder of a run with checkpoints of iterations 1, 3 and 5, and the best of 2."""
    save(tmp_path, "model_best", 2)
    for iteration in (1, 3, 5):
        save(tmp_path, f"model_{iteration:07d}", iteration)
    return tmp_path


# --- files -----------------------------------------------------------------------------------


def test_a_checkpoint_has_its_checksum_in_the_format_of_sha256sum(run):
    file = run / "model_0000005.pth"
    expected = f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n"
    assert Path(f"{file}.sha256").read_text() == expected
    assert (run / "last_checkpoint").read_text() == file.name
    assert not list(run.glob(".*"))


def test_the_best_checkpoint_is_never_the_last(run):
    save(run, "model_best", 6)
    assert (run / "last_checkpoint").read_text() == "model_0000005.pth"


CALLS = ("fsync", "replace", "unlink")


def save_until_killed(folder: Path, name: str, iteration: int, calls: int) -> bool:
    """Save in a child process that ends before its n-th system call; returns whether it did."""
    child = os.fork()
    if not child:
        left = calls

        def count(call):
            def counted(*args, **kwargs):
                nonlocal left
                left -= 1
                if not left:
                    os._exit(9)
                return call(*args, **kwargs)

            return counted

        try:
            for call in CALLS:
                setattr(os, call, count(getattr(os, call)))
            save(folder, name, iteration)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, 9)
    return status == 9


def warnings_of(caplog):
    return [record for record in caplog.records if record.levelno == logging.WARNING]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model_0000007", "model_final"])
def test_a_kill_at_any_moment_of_a_save_leaves_a_run_to_resume(run, tmp_path_factory, name, caplog):
    save(run, "model_final", 5)  # which the second case overwrites
    calls, killed = 0, True
    while killed:
        calls += 1
        folder = tmp_path_factory.mktemp("run") / "run"
        shutil.copytree(run, folder)
        killed = save_until_killed(folder, name, 7, calls)
        assert resume(folder) in ((5, 7) if killed else (7,))
        remove_temporary_files(str(folder))
        assert not list(folder.glob(".*"))
    assert calls > 8
    assert not warnings_of(caplog)  # no checkpoint was ever damaged


def test_only_temporary_files_of_killed_writes_are_removed(tmp_path):
    for name in (".model_0000001.pth.12.tmp", ".mine.tmp", "model.12.tmp", ".lock"):
        (tmp_path / name).touch()
    assert remove_temporary_files(str(tmp_path)) == [".model_0000001.pth.12.tmp"]
    assert names(tmp_path) == {".mine.tmp", "model.12.tmp", ".lock"}


def test_old_checkpoints_go_with_their_checksums(run):
    save(run, "model_final", 5)
    save(run, "model_0000009", 9)  # of an earlier, longer run
    remove_old_checkpoints(str(run), "model", newest=5, keep=2)
    kept = {"model_0000003", "model_0000005", "model_0000009", "model_best", "model_final"}
    assert {name.split(".")[0] for name in names(run)} == kept | {"last_checkpoint"}
    assert len(names(run)) == 2 * len(kept) + 1


@pytest.mark.parametrize(("keep", "left"), [(2, {4, 5}), (0, set(range(6))), (None, set(range(6)))])
def test_a_run_keeps_its_newest_checkpoints(tmp_path, keep, left):
    for resumed, until in ((0, 3), (3, 6)):
        checkpointer = Checkpointer(nn.Linear(1, 1), str(tmp_path))
        hook = PeriodicCheckpointer(checkpointer, 1, keep, max_iter=until)
        for iteration in range(resumed, until):
            hook.step(iteration)
    expected = {f"model_{number:07d}.pth" for number in left} | {"model_final.pth"}
    assert {path.name for path in tmp_path.glob("*.pth")} == expected
    assert {path.stem for path in tmp_path.glob("*.sha256")} == expected


# --- damage ----------------------------------------------------------------------------------


def tear(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:3000])


def zero(file: Path) -> None:
    """4 KiB of zeros in the middle, which torch does not notice."""
    data = bytearray(file.read_bytes())
    data[6000 : 6000 + 4096] = bytes(4096)
    file.write_bytes(data)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def diverge(file: Path) -> None:
    content = torch.load(file)
    content["model"]["weight"][3, 4] = torch.nan
    torch.save(content, file)
    Path(f"{file}.sha256").unlink()


DAMAGE = {
    tear: "does not match its checksum",
    zero: "does not match its checksum",
    empty: "does not match its checksum",
    diverge: "has NaN or infinite values in weight",
    Path.unlink: "does not exist",
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_resumed_run_falls_back_to_the_checkpoint_before(run, damage, caplog):
    damage(run / "model_0000005.pth")
    assert resume(run) == 3
    [record] = warnings_of(caplog)
    assert str(run / "model_0000005.pth") in record.message
    assert DAMAGE[damage] in record.message
    assert f"The run continues from {run / 'model_0000003.pth'} at iteration 4" in record.message


@pytest.mark.parametrize("damage", [tear, empty])
def test_damage_is_found_without_a_checksum(run, damage):
    for number in (3, 5):
        damage(run / f"model_000000{number}.pth")
        (run / f"model_000000{number}.pth.sha256").unlink()
    assert resume(run) == 2  # the best
    assert list_checkpoints(str(run))[0] == str(run / "model_0000005.pth")


@pytest.mark.parametrize("content", [None, "", " \n"])
def test_without_last_checkpoint_the_newest_is_used(run, content, caplog):
    save(run, "model_final", 6)
    (run / "last_checkpoint").unlink()
    if content is not None:
        (run / "last_checkpoint").write_text(content)
    assert resume(run) == 6
    [record] = warnings_of(caplog)
    assert "last_checkpoint is missing" in record.message and "model_final" in record.message


def test_a_run_without_a_good_checkpoint_does_not_start_anew(run):
    for file in run.glob("*.pth"):
        tear(file)
    with pytest.raises(
        UsageError, match=r"no checkpoint in .* can be used: .* does not match"
    ) as caught:
        resume(run)
    assert "\n" not in str(caught.value)


def test_a_folder_without_checkpoints_is_a_new_run(tmp_path):
    assert resume(tmp_path) == -1
    assert resume(tmp_path / "nowhere") == -1
    assert not Checkpointer(nn.Linear(1, 1), str(tmp_path)).has_checkpoint()


@pytest.mark.parametrize("name", ["/other/model_0000001.pth", "../other/a.pth", "a/../../b.pth"])
def test_last_checkpoint_stays_in_its_folder(run, name):
    (run / "last_checkpoint").write_text(name)
    with pytest.raises(UsageError, match="which is outside its folder"):
        resume(run)


def test_a_checkpoint_in_a_subfolder_is_in_the_folder(run):
    (run / "old").mkdir()
    shutil.copy(run / "model_0000001.pth", run / "old")
    (run / "last_checkpoint").write_text("old/model_0000001.pth")
    assert resume(run) == 1


# --- weights that are not finite -------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", ["model_0000007", "model_best", "model_final"])
def test_weights_that_are_not_finite_are_not_saved(run, name, value):
    before, model = names(run), nn.BatchNorm1d(3)
    model.running_var[1] = value
    with pytest.raises(UsageError, match=r"running_var is NaN or infinite.*model_0000005\.pth"):
        Checkpointer(model, str(run), trainer=State(7)).save(name)
    assert names(run) == before and resume(run) == 5


@pytest.mark.parametrize("suffix", [".pth", ".pkl"])
def test_weights_that_are_not_finite_are_not_loaded(tmp_path, suffix):
    file, state = tmp_path / f"model{suffix}", nn.Linear(2, 2).state_dict()
    state["bias"][0] = -torch.inf
    if suffix == ".pth":
        torch.save({"model": state}, file)
    else:
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}))
    with pytest.raises(UsageError, match="has NaN or infinite values in bias"):
        Checkpointer(nn.Linear(2, 2)).load(str(file))
