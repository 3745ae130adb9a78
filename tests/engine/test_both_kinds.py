"""A YAML file and a LazyConfig of the same run: what they leave, and what is refused."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from config_kinds import KEYS, KINDS, ROOT, THIN_LAZY
from detectron2.config import LazyConfig, instantiate

from nl_detectron.engine import evaluate, preflight
from nl_detectron.errors import UsageError


@pytest.fixture(scope="module")
def trained(tiny_of_kind, train, restore_loggers, tmp_path_factory):
    """The folders of two runs of 2 iterations, by kind; that of the LazyConfig by train_net.py."""
    folder = tmp_path_factory.mktemp("runs")
    train(tiny_of_kind("yaml", folder / "yaml", max_iter=2))
    unsure = "model.roi_heads.box_predictor.test_score_thresh=0.0"
    words = [*THIN_LAZY, unsure, "train.max_iter=2", f"train.output_dir={folder / 'lazy'}"]
    config = str(ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.py")
    with restore_loggers(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train_net.py", "--config-file", config, *words])
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    return {kind: folder / kind for kind in KINDS}


def files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    return {name.split(".tfevents.")[0] for name in names}


def read_summary(folder: Path, name: str = "summary.json") -> dict:
    return json.loads((folder / name).read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=False)["model"]


def equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[k], others[k]) for k in some)


# --- runs ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_they_leave_the_same_files_weights_and_results(trained):
    assert files(trained["lazy"]) == files(trained["yaml"]) >= {"model_best.pth", "summary.json"}
    assert equal(weights(trained["lazy"]), weights(trained["yaml"]))
    ours, theirs = (read_summary(trained[kind]) for kind in KINDS)
    assert ours.keys() == theirs.keys()
    for key in ("results", "iterations", "device", "versions"):
        assert ours[key] == theirs[key]


@pytest.mark.slow
def test_a_lazy_configs_saved_config_describes_the_model_that_ran(trained):
    text = (trained["lazy"] / "config.yaml").read_text()
    assert text == read_summary(trained["lazy"])["config"]
    cfg = LazyConfig.load(str(trained["lazy"] / "config.yaml"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert model.state_dict().keys() == weights(trained["lazy"]).keys()


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "other"), [KINDS, KINDS[::-1]])
def test_either_evaluates_the_weights_of_the_other(trained, tiny_of_kind, kind, other, tmp_path):
    evaluate(tiny_of_kind(kind, tmp_path, weights=trained[other] / "model_final.pth"))
    assert (
        read_summary(tmp_path, "evaluation.json")["results"]
        == read_summary(trained[kind])["results"]
    )
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.slow
def test_either_goes_on_with_a_run_of_the_other(trained, tiny_of_kind, train, tmp_path):
    for kind, other in (KINDS, KINDS[::-1]):
        shutil.copytree(trained[other], tmp_path / kind)
        trainer = train(tiny_of_kind(kind, tmp_path / kind, max_iter=3), "--resume")
        assert trainer.start_iter == 2
        state = torch.load(tmp_path / kind / "model_final.pth", weights_only=False)["trainer"]
        assert state["iteration"] == 2
        steps = state["_trainer"]["optimizer"]["state"].values()
        assert max(int(step["step"]) for step in steps) == 3
    assert equal(weights(tmp_path / "lazy"), weights(tmp_path / "yaml"))
    assert not equal(weights(tmp_path / "lazy"), weights(trained["lazy"]))


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_a_run_in_mixed_precision_leaves_its_files(kind, tiny_of_kind, train, tmp_path):
    cfg = tiny_of_kind(kind, tmp_path, amp=True, max_iter=2)
    if kind == "yaml":
        cfg.defrost()
        cfg.MODEL.DEVICE = "cuda"
    else:
        cfg.train.device = "cuda"
    train(cfg)
    assert read_summary(tmp_path)["device"] == "cuda"
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


# --- refusals --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("options", "words", "message"),
    [
        ({"amp_dtype": "fp16"}, [], "{amp_dtype}: expected one of float16, bfloat16, got 'fp16'"),
        ({}, ["--num-gpus", "2"], "to run 2 processes on the CPU, set {device} to cpu"),
        ({}, ["--num-gpus", "3", "cpu"], "({batch_size}): expected a multiple of 3, the number"),
        ({"norm": "SyncBN"}, ["--num-gpus", "2", "cpu"], "res4.nonlocal4.norm is a SyncBN"),
        ({"train_set": "['tiny_trian']"}, [], "'tiny_trian' is not registered (similar: tiny_tra"),
        ({"after": "['res9.0']"}, [], "this config describes no model: {after}: there is no"),
        ({"pairwise_factor": 0.0}, [], "expected a number above 0, got 0.0; to keep a block"),
        ({"weights": "nope.pth"}, [], "'nope.pth' does not exist"),
        ({}, ["--eval-only"], "--eval-only needs {weights}"),
        (
            {"visualize_period": -1},
            [],
            "{visualize_period}: expected an integer of 0 or more, got -1",
        ),
        ({"visualize_images": 0}, [], "{visualize_images}: expected an integer above 0, got 0"),
        ({"visualize_score": 50.0}, [], "{visualize_score}: expected a number of 0 to 1, got 50"),
    ],
)
def test_each_mistake_is_reported_before_the_run(
    kind, options, words, message, tiny_of_kind, arguments, monkeypatch, tmp_path
):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    keys = {name: pair[KINDS.index(kind)] for name, pair in KEYS.items()}
    keys["after"] = KEYS["after"][0]  # which a block's own errors name
    on_cpu = [keys["device"], "cpu"] if kind == "yaml" else [f"{keys['device']}=cpu"]
    words = [word for word in words if word != "cpu"] + (on_cpu if "cpu" in words else [])
    with pytest.raises(UsageError) as caught:
        preflight(tiny_of_kind(kind, tmp_path, **options), arguments(*words))
    assert message.format(**keys) in str(caught.value) and "\n" not in str(caught.value)
