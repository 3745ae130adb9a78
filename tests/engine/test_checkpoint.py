"""What a checkpoint gave is said in one line, and a load that means nothing is refused."""

import logging
import pickle

import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from helpers import nonlocal_tensors, tiny_cfg, with_blocks

from nl_detectron.engine import Checkpointer
from nl_detectron.engine.checkpoint import fresh_outside_blocks
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model

BASELINE = tiny_cfg(task="keypoint")
NONLOCAL = with_blocks(BASELINE, backbone=["res3.0", "res4.-2"], head=[2])
BLOCKS = [
    "backbone.bottom_up.res3.nonlocal0",
    "backbone.bottom_up.res4.nonlocal4",
    "roi_heads.keypoint_head.nonlocal2",
]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Checkpoints of a baseline, of a non-local model, and a zoo file of the ResNet alone."""
    folder = tmp_path_factory.mktemp("files")
    for name, cfg in (("baseline", BASELINE), ("nonlocal", NONLOCAL)):
        DetectionCheckpointer(build_model(cfg), str(folder)).save(name)
    state = build_model(BASELINE).backbone.bottom_up.state_dict()
    zoo = {name: tensor.numpy() for name, tensor in state.items()}
    zoo |= {"fc1000.weight": zoo["stem.conv1.weight"], "fc1000.bias": zoo["res2.0.conv1.norm.bias"]}
    content = {"model": zoo, "__author__": "test", "matching_heuristics": True}
    (folder / "resnet.pkl").write_bytes(pickle.dumps(content))
    return folder


@pytest.fixture
def load(files, caplog):
    """Loads a file into a model; returns the checkpointer and the log records."""

    def run(cfg, file):
        checkpointer = Checkpointer(build_model(cfg))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            checkpointer.load(str(files / file))
        return checkpointer, caplog.records

    return run


def line(records) -> str:
    """The one line about what was loaded."""
    (record,) = (r for r in records if r.message.startswith("Loaded "))
    assert record.name.startswith("nl_detectron") and "\n" not in record.message
    return record.message


def test_a_baselines_file_leaves_just_the_blocks_fresh_and_names_each(load, files):
    checkpointer, records = load(NONLOCAL, "baseline.pth")
    fresh = nonlocal_tensors(checkpointer.model)
    total = len(checkpointer.model.state_dict())
    named = ", ".join(f"{name} (8)" for name in BLOCKS)  # weight and bias of theta, phi, g, w_z
    assert len(fresh) == 24
    assert set(checkpointer.fresh) == fresh
    assert fresh_outside_blocks(checkpointer) == []
    assert line(records) == (
        f"Loaded {total - 24} of {total} tensors from {files / 'baseline.pth'}. "
        f"Not in the file: {named}. Not in the model: none."
    )


def test_a_whole_file_leaves_nothing_fresh(load):
    checkpointer, records = load(NONLOCAL, "nonlocal.pth")
    total = len(checkpointer.model.state_dict())
    assert not checkpointer.fresh and not checkpointer.unused
    assert f"Loaded {total} of {total} tensors" in line(records)
    assert "Not in the file: none. Not in the model: none." in line(records)


def test_blocks_that_a_model_lacks_are_reported_as_unused(load):
    checkpointer, records = load(BASELINE, "nonlocal.pth")
    assert not checkpointer.fresh
    assert set(checkpointer.unused) == nonlocal_tensors(build_model(NONLOCAL))
    assert "Not in the file: none. Not in the model: backbone" in line(records)
    for name in BLOCKS:  # whoever forgot the blocks in the config must see which
        assert f"{name} (8)" in line(records)


def test_imagenet_weights_leave_all_but_the_resnet_fresh(load):
    checkpointer, records = load(NONLOCAL, "resnet.pkl")
    names = set(checkpointer.model.state_dict())
    resnet = {n for n in names if n.startswith("backbone.bottom_up.")}
    assert set(checkpointer.fresh) == names - resnet | nonlocal_tensors(checkpointer.model)
    outside = fresh_outside_blocks(checkpointer)
    assert set(outside) == names - resnet - nonlocal_tensors(checkpointer.model)
    assert "Not in the model: fc1000 (2)." in line(records)


@pytest.mark.parametrize("file", ["baseline.pth", "nonlocal.pth", "resnet.pkl"])
def test_a_load_is_a_few_lines_and_no_page(load, file):
    _, records = load(NONLOCAL, file)
    ours = [r for r in records if r.name.startswith("nl_detectron")]
    assert 1 <= len(ours) <= 3
    assert len(records) <= 6
    for record in records:
        assert "\n" not in record.message
        assert "Following weights matched" not in record.message


@pytest.mark.slow
def test_loading_leaves_other_loggers_as_they_were(load):
    renaming = logging.getLogger("detectron2.checkpoint.c2_model_loading")
    before = renaming.level
    load(NONLOCAL, "resnet.pkl")
    assert renaming.level == before


# --- shapes ----------------------------------------------------------------------------------


@pytest.fixture
def other_classes():
    cfg = NONLOCAL.clone()
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 5
    return cfg


def test_a_tensor_of_another_shape_is_reported_with_both_shapes(load, other_classes):
    checkpointer, records = load(other_classes, "nonlocal.pth")
    warned = [r.message for r in records if r.levelno == logging.WARNING]
    assert len(warned) == 1
    assert warned[0].startswith("4 tensors are not loaded")  # weight and bias of classes and boxes
    assert "cls_score.weight is (4, 16) in the file, (6, 16) here" in warned[0]
    total = len(checkpointer.model.state_dict())
    assert f"Loaded {total - 4} of {total} tensors" in line(records)


def test_a_tensor_of_another_shape_counts_as_fresh(load, other_classes):
    checkpointer, _ = load(other_classes, "nonlocal.pth")
    assert len(fresh_outside_blocks(checkpointer)) == 4
    assert all("box_predictor" in name for name in checkpointer.fresh)


def test_a_zoo_files_tensor_of_another_shape_is_reported(load):
    cfg = BASELINE.clone()
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 4
    _, records = load(cfg, "resnet.pkl")
    warned = " ".join(r.message for r in records if r.levelno == logging.WARNING)
    assert "stem.conv1.weight" in warned and "4, 3, 7, 7" in warned and "8, 3, 7, 7" in warned


# --- files that cannot be loaded -------------------------------------------------------------


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(UsageError, match="does not exist"):
        Checkpointer(build_model(BASELINE)).load(str(tmp_path / "nowhere.pth"))


def test_after_a_damaged_file_another_can_be_loaded(files, tmp_path):
    (tmp_path / "text.pth").write_text("not a checkpoint")
    checkpointer = Checkpointer(build_model(BASELINE))
    with pytest.raises(UsageError, match="cannot be read"):
        checkpointer.load(str(tmp_path / "text.pth"))
    checkpointer.load(str(files / "baseline.pth"))
    assert not checkpointer.fresh


def test_the_loaded_tensors_are_those_of_the_file(load, files):
    checkpointer, _ = load(NONLOCAL, "baseline.pth")
    state = torch.load(files / "baseline.pth")["model"]
    loaded = checkpointer.model.state_dict()
    assert state and all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
