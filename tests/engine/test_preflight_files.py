"""Weights and output folders that cannot be used are reported before a run starts."""

import logging
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from nl_detectron.engine import preflight
from nl_detectron.errors import UsageError

# --- weights ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoints(trained, tmp_path_factory):
    """Files that are no checkpoints, by what is wrong with them."""
    folder = tmp_path_factory.mktemp("checkpoints")
    whole = (trained.folder / "model_final.pth").read_bytes()
    state = torch.load(trained.folder / "model_final.pth", weights_only=False)
    pickled = pickle.dumps({"model": {k: v.numpy() for k, v in state["model"].items()}})

    (folder / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    (folder / "text.pth").write_text("<html>404: not found</html>")
    (folder / "empty.pth").touch()
    (folder / "truncated.pkl").write_bytes(pickled[: len(pickled) // 2])
    (folder / "text.pkl").write_text("<html>404: not found</html>")
    (folder / "empty.pkl").touch()
    (folder / "a_list.pkl").write_bytes(pickle.dumps([1, 2]))
    torch.save({"model": {}}, folder / "no_weights.pth")
    torch.save({}, folder / "no_keys.pth")
    torch.save(["weights"], folder / "a_list.pth")
    torch.save({"optimizer": {"lr": 0.1}, "iteration": 3}, folder / "no_model.pth")
    (folder / "no_weights.pkl").write_bytes(pickle.dumps({"model": {}, "__author__": "me"}))
    (folder / "a_folder.pth").mkdir()
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("truncated.pth", "text.pth", "empty.pth", "truncated.pkl", "text.pkl", "empty.pkl"),
        *("no_weights.pth", "no_keys.pth", "a_list.pth", "no_model.pth"),
        *("no_weights.pkl", "a_list.pkl", "a_folder.pth"),
    ],
)
def test_a_damaged_checkpoint_is_named(override_refusal, checkpoints, name):
    message = override_refusal("MODEL.WEIGHTS", checkpoints / name)
    assert f"checkpoint {str(checkpoints / name)!r}" in message


def test_a_checkpoint_that_cannot_be_fetched_is_named(override_refusal, monkeypatch, tmp_path):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    url = "http://127.0.0.1:9/model.pth"  # the discard port: nothing answers
    message = override_refusal("MODEL.WEIGHTS", url)
    assert url in message and "cannot be downloaded" in message


def test_a_good_checkpoint_of_either_format_passes(tiny_config, tmp_path, trained, arguments):
    zoo = {"model": {"backbone.stem": np.zeros(3)}, "__author__": "Detectron2 Model Zoo"}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps(zoo))
    for weights in (trained.folder / "model_final.pth", tmp_path / "zoo.pkl"):
        preflight(tiny_config(tmp_path / "run", "MODEL.WEIGHTS", weights), arguments())


def test_resuming_without_a_checkpoint_warns(tiny_config, tmp_path, arguments, caplog):
    preflight(tiny_config(tmp_path / "run"), arguments("--resume"))
    (record,) = (r for r in caplog.records if r.levelno == logging.WARNING)
    assert "--resume" in record.message and str(tmp_path / "run") in record.message


def test_resuming_checks_the_last_checkpoint_of_the_run(override_refusal, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000001.pth")
    last = str(tmp_path / "run" / "model_0000001.pth")
    assert f"{last!r} does not exist" in override_refusal(words=["--resume"])
    torch.save({"model": {}}, last)
    assert "holds no model weights" in override_refusal(words=["--resume"])
    (tmp_path / "run" / "last_checkpoint").write_text(str(tmp_path / "model_0000001.pth"))
    assert "which is outside its folder" in override_refusal(words=["--resume"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["SOLVER.OPTIMIZER", "SGD"], "is of another optimizer: it has amsgrad, betas, "),
        (["SOLVER.NONLOCAL_LR_FACTOR", 2.0], "is of an optimizer with other parameter groups"),
        (["MODEL.NONLOCAL.BACKBONE.AFTER", "['res4.0']"], "is of another model: it lacks 8 "),
        (["MODEL.NONLOCAL.REDUCTION", 4], "theta.weight is ("),
        (["SOLVER.AMP.ENABLED", True], "was trained without mixed precision in float16"),
    ],
)
def test_resuming_another_model_or_optimizer_is_reported(
    trained, tiny_config, arguments, changes, message
):
    before = {path.name: path.stat().st_mtime_ns for path in trained.folder.iterdir()}
    periods = ("SOLVER.MAX_ITER", 6, "TEST.EVAL_PERIOD", 1)  # which may change
    preflight(tiny_config(trained.folder, *periods), arguments("--resume"))
    with pytest.raises(UsageError, match=r"--resume: checkpoint '.*model_final\.pth'") as caught:
        preflight(tiny_config(trained.folder, *changes), arguments("--resume"))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert {path.name: path.stat().st_mtime_ns for path in trained.folder.iterdir()} == before


def test_resuming_weights_alone_is_reported(trained, tiny_config, arguments, tmp_path):
    content = torch.load(trained.folder / "model_final.pth")
    torch.save({"model": content["model"]}, tmp_path / "model_final.pth")
    preflight(tiny_config(tmp_path), arguments("--resume", "--eval-only"))
    with pytest.raises(UsageError, match="has weights, but no state of a training"):
        preflight(tiny_config(tmp_path), arguments("--resume"))


# --- the output folder -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("", "OUTPUT_DIR: expected a folder of this machine"),
        ("s3://bucket/run", "OUTPUT_DIR: expected a folder of this machine"),
        ("{0}/file", "{0}/file is not a folder"),
        ("{0}/file/run", "{0}/file is not a folder"),
        ("{0}/readonly/new/run", "{0}/readonly cannot be written"),
    ],
)
def test_an_output_folder_that_cannot_be_written_is_reported(
    tiny_config, arguments, tmp_path, monkeypatch, folder, message
):
    (tmp_path / "file").touch()
    (tmp_path / "readonly").mkdir()
    access = os.access  # of a folder without permissions, it is true for root
    monkeypatch.setattr(
        os, "access", lambda path, mode: "readonly" not in path and access(path, mode)
    )
    for words in ((), ("--eval-only", "--resume")):
        with pytest.raises(UsageError) as caught:
            preflight(tiny_config(folder.format(tmp_path)), arguments(*words))
        assert message.format(tmp_path) in str(caught.value)


def test_a_disk_without_room_for_a_checkpoint_is_reported(
    tiny_config, arguments, tmp_path, monkeypatch
):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=2**16))
    with pytest.raises(UsageError, match=r"0\.1 MiB are free there, but a checkpoint takes more"):
        preflight(tiny_config(tmp_path / "run"), arguments())
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("keep", [-1, True])
def test_a_number_of_checkpoints_to_keep_is_checked(tiny_of_kind, arguments, tmp_path, keep):
    with pytest.raises(UsageError, match=r"train\.checkpointer\.max_to_keep: expected a number"):
        cfg = tiny_of_kind("lazy", tmp_path)
        cfg.train.checkpointer.max_to_keep = keep
        preflight(cfg, arguments())
