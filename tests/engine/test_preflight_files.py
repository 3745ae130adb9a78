"""Weights and output folders that cannot be used are reported before a run starts."""

import copy
import logging
import os
import pickle
import shutil
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import LazyConfig
from fast_part import first_cases
from omegaconf import OmegaConf

from nl_detectron.engine import preflight
from nl_detectron.engine.config_values import to_plain
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
    state = torch.load(trained.folder / "model_final.pth", weights_only=True)["model"]
    stem = {name: value.numpy() for name, value in state.items() if "stem" in name}
    zoo = {"model": stem, "__author__": "Detectron2 Model Zoo"}
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


OTHERS = {"CONV_DIM": 32, "FC_DIM": 33, "POOLER_RESOLUTION": 5, "POOLER_SAMPLING_RATIO": 2}


@pytest.mark.slow
@first_cases(
    3,
    "changes, message",
    [
        (["SOLVER.OPTIMIZER", "SGD"], "is of another optimizer: AdamW there and SGD here"),
        (["SOLVER.NONLOCAL_LR_FACTOR", 2.0], "is of an optimizer with other parameter groups"),
        (
            ["MODEL.NONLOCAL.BACKBONE.AFTER", "['res4.0']"],
            "model: MODEL.NONLOCAL.BACKBONE.AFTER is ['res4.-2'] there and ['res4.0'] here. Give",
        ),
        (
            ["MODEL.NONLOCAL.PAIRWISE", "dot_product"],
            "model: MODEL.NONLOCAL.PAIRWISE is 'embedded_gaussian' there and 'dot_product' here",
        ),
        (["MODEL.NONLOCAL.SUBSAMPLE", "none"], "SUBSAMPLE is 'before' there and 'none' here"),
        (["MODEL.NONLOCAL.USE_SCALE", False], "USE_SCALE is True there and False here"),
        (
            ["MODEL.ANCHOR_GENERATOR.SIZES", "[[9], [16], [32], [64]]"],
            "there and [[9], [16], [32], [64]] here. Give",
        ),
        (
            [word for key in OTHERS for word in (f"MODEL.ROI_BOX_HEAD.{key}", OTHERS[key])],
            "there and 33 here, and 1 more. Give",
        ),
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


def test_losses_samples_and_tests_of_a_resumed_model_may_change(trained, tiny_config, arguments):
    changes = {
        "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.5,
        "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
        "MODEL.RPN.LOSS_WEIGHT": 2.0,
        "MODEL.NONLOCAL.CHECKPOINT": True,
        "MODEL.WEIGHTS": "gone.pth",
        "SOLVER.CLIP_GRADIENTS.ENABLED": False,
    }
    words = [word for pair in changes.items() for word in pair]
    preflight(tiny_config(trained.folder, *words), arguments("--resume"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["SOLVER.OPTIMIZER", "SGD"], "is of another optimizer: it has amsgrad, betas, "),
        (["MODEL.NONLOCAL.BACKBONE.AFTER", "['res4.0']"], "is of another model: it lacks 8 "),
        (["MODEL.NONLOCAL.REDUCTION", 4], "theta.weight is ("),
    ],
)
def test_tensors_tell_another_model_where_a_checkpoint_does_not_describe_it(
    trained, tiny_config, arguments, tmp_path, changes, message
):
    content = torch.load(trained.folder / "model_final.pth", weights_only=True)
    del content["trainer"]["described"], content["nonlocal_blocks"]
    torch.save(content, tmp_path / "model_final.pth")
    same = ("MODEL.NONLOCAL.PAIRWISE", "dot_product")  # which such a checkpoint cannot tell
    preflight(tiny_config(tmp_path, *same), arguments("--resume"))
    with pytest.raises(UsageError, match="--resume: checkpoint") as caught:
        preflight(tiny_config(tmp_path, *changes), arguments("--resume"))
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def lazy_cfg(tiny_of_kind, train, tmp_path_factory):
    """The config of a finished run."""
    cfg = tiny_of_kind("lazy", tmp_path_factory.mktemp("lazy"), max_iter=1)
    train(cfg)
    return cfg


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer.optimizer", torch.optim.Adam, "optimizer: AdamW there and Adam here"),
        ("optimizer.optimizer", torch.optim.NAdam, "optimizer: AdamW there and NAdam here"),
        (
            "model.backbone.block.pairwise",
            "dot_product",
            "model.backbone.block.pairwise is 'embedded_gaussian' there and 'dot_product' here",
        ),
    ],
)
def test_resuming_another_lazy_model_or_optimizer_is_reported(
    lazy_cfg, arguments, key, value, message
):
    preflight(lazy_cfg, arguments("--resume"))
    changed = copy.deepcopy(lazy_cfg)
    changed.optimizer.pop("fused")  # which NAdam has not
    OmegaConf.update(changed, key, value)
    with pytest.raises(UsageError, match="--resume: checkpoint") as caught:
        preflight(changed, arguments("--resume"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_class_of_a_configs_own_file_is_the_same_when_it_is_loaded_again(tmp_path):
    (tmp_path / "base.py").write_text(
        "class Net:\n    pass\nmodel = {'_target_': Net, 'n': (1,)}\n"
    )
    (tmp_path / "main.py").write_text("from .base import model\n")
    loaded = [LazyConfig.load(str(tmp_path / "main.py")).model for _ in range(2)]
    values = [to_plain(OmegaConf.to_container(one)) for one in loaded]
    assert values[0] == values[1] and values[0]["n"] == [1]
    assert values[0]["_target_"].endswith("Net")


@pytest.mark.slow
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
