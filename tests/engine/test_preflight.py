"""Mistakes that are reported before a run starts, and not in the middle of it."""

import logging
import os
import pickle
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from nl_detectron.engine import distributed, preflight
from nl_detectron.engine.mixed_precision import check_precision
from nl_detectron.errors import UsageError


@pytest.fixture
def refusal(tiny_config, tmp_path, arguments):
    """The error's text, for overrides of the tiny config and words of the command line."""

    def check(*overrides, words=()) -> str:
        cfg = tiny_config(tmp_path / "run", *overrides)
        with pytest.raises(UsageError) as caught:
            preflight(cfg, arguments(*words))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return check


def test_a_good_run_passes_and_writes_nothing(tiny_config, tmp_path, arguments, caplog):
    cfg = tiny_config(tmp_path / "run")
    before = cfg.dump()
    preflight(cfg, arguments())
    assert cfg.dump() == before
    assert not (tmp_path / "run").exists()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


# --- data sets -------------------------------------------------------------------------------


def test_an_unregistered_data_set_is_reported_with_how_to_register_it(refusal):
    message = refusal("DATASETS.TEST", "('tiny_trian',)")
    assert "'tiny_trian' is not registered" in message
    assert "register_coco_instances" in message


@pytest.fixture
def absent(tmp_path):
    """A registered data set whose files are not there."""
    register_coco_instances("absent", {}, str(tmp_path / "absent.json"), str(tmp_path / "images"))
    yield tmp_path
    DatasetCatalog.remove("absent")
    MetadataCatalog.remove("absent")


def test_a_data_set_without_files_says_where_it_looked(refusal, absent, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data/sets")
    message = refusal("DATASETS.TRAIN", "('absent',)")
    assert f"annotations are not at {absent / 'absent.json'}" in message
    assert "DETECTRON2_DATASETS" in message and "/data/sets" in message
    (absent / "absent.json").write_text("{}")
    assert f"images are not at {absent / 'images'}" in refusal("DATASETS.TEST", "('absent',)")


def test_coco_without_files_names_the_environment_variable(refusal, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no ./datasets here
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    meta = MetadataCatalog.get("coco_2017_val")
    if "datasets/coco" not in meta.json_file:
        pytest.skip("DETECTRON2_DATASETS was set before Detectron2 was imported")
    message = refusal("DATASETS.TEST", "('coco_2017_val',)")
    assert str(tmp_path / "datasets" / "coco") in message
    assert "DETECTRON2_DATASETS" in message and "unset" in message


def test_nothing_to_train_on_is_reported(refusal):
    assert "DATASETS.TRAIN is empty" in refusal("DATASETS.TRAIN", "()")


def test_nothing_to_evaluate_on_is_reported(refusal):
    assert "DATASETS.TEST is empty" in refusal("DATASETS.TEST", "()", words=["--eval-only"])


def test_an_evaluation_needs_no_training_set(trained, tiny_config, tmp_path, arguments):
    weights = ("MODEL.WEIGHTS", trained.folder / "model_final.pth")
    cfg = tiny_config(tmp_path, "DATASETS.TRAIN", "('no_such',)", *weights)
    preflight(cfg, arguments("--eval-only"))


# --- devices ---------------------------------------------------------------------------------


def test_a_gpu_without_bfloat16_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    check_precision(True, "float16", "cuda", "SOLVER.AMP.DTYPE")
    check_precision(False, "bfloat16", "cuda", "SOLVER.AMP.DTYPE")
    with pytest.raises(UsageError, match="does not compute in bfloat16; use float16"):
        check_precision(True, "bfloat16", "cuda", "SOLVER.AMP.DTYPE")


def test_more_gpus_than_there_are_is_refused(refusal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = refusal(words=["--num-gpus", "4"])
    assert "--num-gpus 4" in message and "2 CUDA devices" in message


# --- several processes -----------------------------------------------------------------------

TWO = ["--num-gpus", "2", "MODEL.DEVICE", "cpu"]


def test_as_many_processes_run_on_the_cpu_as_asked_for(tiny_config, tmp_path, arguments):
    preflight(tiny_config(tmp_path), arguments(*TWO))


@pytest.mark.parametrize(
    "words, message",
    [
        (["--num-machines", "2", "--machine-rank", "2", *TWO], "--machine-rank 2: expected 0 to 1"),
        (["--num-machines", "2", "--dist-url", "auto", *TWO], "--dist-url auto is for one machine"),
    ],
)
def test_processes_that_cannot_run_together_are_refused(refusal, monkeypatch, words, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert message in refusal(words=words)


def test_a_single_process_may_have_sync_bn(tiny_config, tmp_path, arguments):
    preflight(tiny_config(tmp_path, "MODEL.NONLOCAL.NORM", "SyncBN"), arguments())


# torchrun's environment of the third of four processes on two machines
ENVIRONMENT = {"RANK": 2, "WORLD_SIZE": 4, "LOCAL_RANK": 0, "LOCAL_WORLD_SIZE": 2}


@pytest.fixture
def torchrun(monkeypatch, arguments):
    """What a command line is taken for in an environment of torchrun's."""

    def follow(*words, **changes):
        for name, value in {**ENVIRONMENT, **changes}.items():
            monkeypatch.setenv(name, str(value))
        args = arguments(*words)
        distributed.follow_torchrun(args)
        return args

    return follow


@pytest.mark.parametrize("words", [[], ["--num-gpus", "2", "--num-machines", "2"]])
def test_torchrun_says_how_many_processes_there_are(torchrun, words):
    args = torchrun(*words)
    assert (args.num_gpus, args.num_machines, args.machine_rank) == (2, 2, 1)


def test_the_batch_is_that_of_torchruns_processes(tiny_config, tmp_path, torchrun):
    args = torchrun("MODEL.DEVICE", "cpu", RANK=0, WORLD_SIZE=3, LOCAL_WORLD_SIZE=3)
    with pytest.raises(UsageError, match=r"a batch of 2 .*expected a multiple of 3"):
        preflight(tiny_config(tmp_path), args)


@pytest.mark.parametrize(
    "words, changes, message",
    [
        (["--num-gpus", "8"], {}, "--num-gpus 8, but torchrun started 2"),
        (["--num-machines", "3"], {}, "--num-machines 3, but torchrun started 2"),
        ([], {"WORLD_SIZE": 3}, "the same --nproc-per-node"),
    ],
)
def test_what_contradicts_torchrun_is_refused(torchrun, words, changes, message):
    with pytest.raises(UsageError, match=message):
        torchrun(*words, **changes)


@pytest.mark.parametrize(
    "error, message",
    [
        (ProcessRaisedException("EADDRINUSE", 0, 1), r"--dist-url tcp://.*: the port is in use"),
        (ProcessExitedException("", 1, 1, -9, "SIGKILL"), "process of rank 1 ended with SIGKILL"),
        (ProcessExitedException("", 1, 1, 3), "process of rank 1 ended with exit code 3"),
    ],
)
def test_what_a_spawned_process_fails_with_is_reported(arguments, monkeypatch, error, message):
    def fail(*_, **__):
        raise error

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(distributed, "launch_processes", fail)
    with pytest.raises(UsageError, match=message):
        distributed.launch(print, (), arguments(*TWO), "cpu")


# --- the model -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("MODEL.NONLOCAL.BACKBONE.AFTER", "['res4.6']", "there is no 'res4.6'"),
        ("MODEL.NONLOCAL.BACKBONE.AFTER", "[]", "is empty"),
        ("MODEL.NONLOCAL.PAIRWISE", "cosine", "'cosine'"),
        ("MODEL.NONLOCAL.SUBSAMPLE", "twice", "'twice'"),
        ("MODEL.NONLOCAL.NORM", "FrozenBN", "FrozenBN"),
        ("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "places no block"),
        ("MODEL.BACKBONE.NAME", "build_nothing", "'build_nothing'"),
        ("MODEL.META_ARCHITECTURE", "Nothing", "'Nothing'"),
        ("MODEL.ROI_HEADS.NAME", "NoHeads", "'NoHeads'"),
        ("MODEL.ROI_MASK_HEAD.NAME", "NoHead", "'NoHead'"),
    ],
)
def test_a_model_that_cannot_be_built_is_reported(refusal, key, value, message):
    assert message in refusal(key, value)


def test_an_unknown_optimizer_is_reported(refusal):
    message = refusal("SOLVER.OPTIMIZER", "Adamm")
    assert "'Adamm'" in message and "AdamW" in message


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
def test_a_damaged_checkpoint_is_named(refusal, checkpoints, name):
    message = refusal("MODEL.WEIGHTS", checkpoints / name)
    assert f"checkpoint {str(checkpoints / name)!r}" in message


def test_a_checkpoint_that_cannot_be_fetched_is_named(refusal, monkeypatch, tmp_path):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    url = "http://127.0.0.1:9/model.pth"  # the discard port: nothing answers
    message = refusal("MODEL.WEIGHTS", url)
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


def test_resuming_checks_the_last_checkpoint_of_the_run(refusal, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000001.pth")
    last = str(tmp_path / "run" / "model_0000001.pth")
    assert f"{last!r} does not exist" in refusal(words=["--resume"])
    torch.save({"model": {}}, last)
    assert "holds no model weights" in refusal(words=["--resume"])
    (tmp_path / "run" / "last_checkpoint").write_text(str(tmp_path / "model_0000001.pth"))
    assert "which is outside its folder" in refusal(words=["--resume"])


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
