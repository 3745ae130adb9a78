"""A YAML file and overrides give a config, or an error that names the mistake."""

from pathlib import Path

import pytest
import torch

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError

DEMO = Path(__file__).parents[2] / "configs" / "Demo" / "relay_mask_rcnn_nl.yaml"


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def write(tmp_path):
    def yaml(text: str) -> str:
        (tmp_path / "config.yaml").write_text(text)
        return str(tmp_path / "config.yaml")

    return yaml


def refusal(*args) -> str:
    with pytest.raises(UsageError) as caught:
        load_config(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_overrides_win_over_the_file_and_the_file_over_its_base(write):
    file = write(f"_BASE_: {DEMO}\nSOLVER:\n  MAX_ITER: 7\n  BASE_LR: 0.25\n")
    cfg = load_config(file, ["SOLVER.BASE_LR", "0.5"])
    assert (cfg.SOLVER.BASE_LR, cfg.SOLVER.MAX_ITER) == (0.5, 7)
    assert cfg.MODEL.NONLOCAL.BACKBONE.AFTER == ["res4.-2"]
    assert cfg.is_frozen()


def test_an_option_after_the_overrides_is_named():
    said = refusal(str(DEMO), ["SEED", "1", "--resume", "OUTPUT_DIR", "x"])
    assert said == "--resume comes after KEY VALUE overrides: give it before them"


@pytest.mark.parametrize("name", ["", None])
def test_no_config_file_says_how_to_give_one(name):
    assert "--config-file" in refusal(name)


def test_a_missing_config_file_is_named():
    assert "'configs/nope.yaml' does not exist" in refusal("configs/nope.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "MODEL: [1, 2",
        "MODEL:\n\tMASK_ON: True",
        "",
        "just words",
        "- a\n- list",
        "_BASE_: missing.yaml",
        "MODEL: 3",
        "MODEL:",
    ],
    ids=["brackets", "tab", "empty", "scalar", "list", "no base", "number", "hole"],
)
def test_a_file_that_is_no_config_is_named(write, text):
    file = write(text)
    assert f"config file {file!r}" in refusal(file)


@pytest.mark.parametrize(
    "wrong, right",
    [
        ("SOLVER.BASE_LRR", "SOLVER.BASE_LR"),
        ("MODEL.NONLOCAL.PAIRWSE", "MODEL.NONLOCAL.PAIRWISE"),
        ("MODEL.NONLOCL.PAIRWISE", "MODEL.NONLOCAL"),
    ],
)
def test_a_mistyped_key_is_reported_with_the_nearest_one(write, wrong, right):
    *nodes, last = wrong.split(".")
    lines = [f"{'  ' * depth}{node}:" for depth, node in enumerate(nodes)]
    text = "\n".join([*lines, f"{'  ' * len(nodes)}{last}: 1"])
    for message in (refusal(write(text)), refusal(str(DEMO), [wrong, "1"])):
        assert f"did you mean {right}" in message


def test_a_key_near_to_none_is_reported_without_a_guess():
    message = refusal(str(DEMO), ["XYZZY", "1"])
    assert "'XYZZY'" in message and "did you mean" not in message


def test_a_key_below_a_value_is_reported():
    assert "SOLVER.BASE_LR.NOW" in refusal(str(DEMO), ["SOLVER.BASE_LR.NOW", "1"])


def test_an_override_without_its_value_is_reported():
    message = refusal(str(DEMO), ["SOLVER.BASE_LR", "0.1", "SEED"])
    assert "KEY VALUE" in message and "SEED" in message


@pytest.mark.parametrize(
    "key, value",
    [("SOLVER.MAX_ITER", "many"), ("MODEL.MASK_ON", "3"), ("MODEL.NONLOCAL.BACKBONE", "res4.-2")],
)
def test_a_value_of_the_wrong_type_names_its_key(key, value):
    assert key in refusal(str(DEMO), [key, value])


def test_the_device_is_the_cpu_where_there_is_no_cuda():
    assert load_config(str(DEMO)).MODEL.DEVICE == "cpu"


def test_the_device_is_cuda_where_there_is_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_config(str(DEMO)).MODEL.DEVICE == "cuda"
    assert load_config(str(DEMO), ["MODEL.DEVICE", "cpu"]).MODEL.DEVICE == "cpu"


def test_a_cuda_device_asked_for_in_vain_is_refused(write):
    assert "MODEL.DEVICE cpu" in refusal(str(DEMO), ["MODEL.DEVICE", "cuda:1"])
    assert "no CUDA device" in refusal(write(f"_BASE_: {DEMO}\nMODEL:\n  DEVICE: cuda\n"))
