"""Mistakes that are reported before a run starts, and not in the middle of it."""

import logging

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from nl_detectron.engine import distributed, preflight, yaml_config
from nl_detectron.engine.mixed_precision import check_precision
from nl_detectron.errors import UsageError


def test_a_good_run_passes_and_writes_nothing(tiny_config, tmp_path, arguments, caplog):
    cfg = tiny_config(tmp_path / "run")
    before = cfg.dump()
    preflight(cfg, arguments())
    assert cfg.dump() == before
    assert not (tmp_path / "run").exists()
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


# --- data sets -------------------------------------------------------------------------------


def test_an_unregistered_data_set_is_reported_with_how_to_register_it(override_refusal):
    message = override_refusal("DATASETS.TEST", "('tiny_trian',)")
    assert "'tiny_trian' is not registered" in message
    assert "register_coco_instances" in message


@pytest.fixture
def absent(tmp_path):
    """A registered data set whose files are not there."""
    register_coco_instances("absent", {}, str(tmp_path / "absent.json"), str(tmp_path / "images"))
    yield tmp_path
    DatasetCatalog.remove("absent")
    MetadataCatalog.remove("absent")


def test_a_data_set_without_files_says_where_it_looked(override_refusal, absent, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "/data/sets")
    message = override_refusal("DATASETS.TRAIN", "('absent',)")
    assert f"annotations are not at {absent / 'absent.json'}" in message
    assert "DETECTRON2_DATASETS" in message and "/data/sets" in message
    (absent / "absent.json").write_text("{}")
    assert f"images are not at {absent / 'images'}" in override_refusal(
        "DATASETS.TEST", "('absent',)"
    )


def test_coco_without_files_names_the_environment_variable(override_refusal, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # no ./datasets here
    monkeypatch.delenv("DETECTRON2_DATASETS", raising=False)
    meta = MetadataCatalog.get("coco_2017_val")
    if "datasets/coco" not in meta.json_file:
        pytest.skip("DETECTRON2_DATASETS was set before Detectron2 was imported")
    message = override_refusal("DATASETS.TEST", "('coco_2017_val',)")
    assert str(tmp_path / "datasets" / "coco") in message
    assert "DETECTRON2_DATASETS" in message and "unset" in message


def test_nothing_to_train_on_is_reported(override_refusal):
    assert "DATASETS.TRAIN is empty" in override_refusal("DATASETS.TRAIN", "()")


def test_nothing_to_evaluate_on_is_reported(override_refusal):
    assert "DATASETS.TEST is empty" in override_refusal(
        "DATASETS.TEST", "()", words=["--eval-only"]
    )


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


def test_more_gpus_than_there_are_is_refused(override_refusal, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    message = override_refusal(words=["--num-gpus", "4"])
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
def test_processes_that_cannot_run_together_are_refused(
    override_refusal, monkeypatch, words, message
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert message in override_refusal(words=words)


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
def test_a_model_that_cannot_be_built_is_reported(override_refusal, key, value, message):
    assert message in override_refusal(key, value)


def test_a_crop_of_polygons_without_shapely_is_reported(override_refusal, monkeypatch):
    monkeypatch.setattr(yaml_config, "find_spec", lambda name: None)
    message = override_refusal("INPUT.CROP.ENABLED", True)
    assert "INPUT.CROP.ENABLED: cropping polygons needs the package shapely" in message


def test_an_unknown_optimizer_is_reported(override_refusal):
    message = override_refusal("SOLVER.OPTIMIZER", "Adamm")
    assert "'Adamm'" in message and "AdamW" in message
