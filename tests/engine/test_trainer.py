"""Whole runs on a tiny relay: what they leave, and what an evaluation repeats."""

import json
import logging
from pathlib import Path

import pytest
import torch
import yaml
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.evaluation.testing import flatten_results_dict

from nl_detectron.engine import Trainer, evaluate, load_config
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks


def metrics(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def summary(folder, name="summary.json") -> dict:
    return json.loads((folder / name).read_text())


def detections(folder) -> list[dict]:
    (file,) = folder.rglob("coco_instances_results.json")
    return json.loads(file.read_text())


def same(results) -> dict:
    """Comparable: without object of a size AP is NaN, which is not NaN, and JSON has null for."""
    flat = flatten_results_dict(results)
    return {name: None if value != value else value for name, value in flat.items()}


# --- a run from start to end -----------------------------------------------------------------


def test_a_run_leaves_its_files(trained):
    files = {path.name for path in trained.folder.iterdir()}
    expected = {"model_0000001.pth", "model_final.pth", "model_best.pth", "last_checkpoint"}
    expected |= {"metrics.json", "summary.json", "log.txt", "config.yaml"}
    assert expected <= files
    assert {f"{name}.sha256" for name in files if name.endswith(".pth")} <= files
    assert not {name for name in files if name.startswith(".")}  # such as the lock
    assert (trained.folder / "last_checkpoint").read_text() == "model_final.pth"


def test_the_summary_tells_results_and_what_they_depend_on(trained):
    info = summary(trained.folder)
    for key in ("bbox/AP", "segm/AP"):
        assert 0 <= info["results"][key] <= 100
    assert info["results"]["bbox/AP"] == metrics(trained.folder)[-1]["bbox/AP"]
    assert info["iterations"] == 4
    assert 0 < info["seconds_per_iteration"] < 60
    assert 50 < info["peak_memory_mib"] < 1e5
    assert info["device"] == "cpu"
    assert info["versions"]["torch"] == torch.__version__
    assert {"nl_detectron", "detectron2", "torchvision", "numpy", "python"} <= set(info["versions"])


def test_the_summarys_config_repeats_the_run(trained, tmp_path):
    (tmp_path / "config.yaml").write_text(summary(trained.folder)["config"])
    again = load_config(str(tmp_path / "config.yaml"))
    assert yaml.safe_load(again.dump()) == yaml.safe_load(trained.cfg.dump())


def test_metrics_hold_finite_losses_of_every_head(trained):
    steps = [record for record in metrics(trained.folder) if "total_loss" in record]
    assert steps
    for name in ("loss_cls", "loss_box_reg", "loss_mask", "loss_rpn_cls", "loss_rpn_loc"):
        assert all(torch.tensor(record[name]).isfinite() for record in steps)


def test_the_log_says_once_where_it_runs_and_where_the_blocks_stand(trained):
    log = (trained.folder / "log.txt").read_text()
    assert log.count("Running on the CPU") == 1
    assert log.count("Non-local blocks in the backbone: res4.nonlocal4 (embedded_gaussian") == 1


def test_training_moves_the_blocks_off_the_identity(trained):
    model = build_model(trained.cfg)
    DetectionCheckpointer(model).load(str(trained.folder / "model_final.pth"))
    blocks = find_blocks(model)
    assert blocks and all(block.w_z.weight.abs().max() > 0 for block in blocks.values())


@pytest.mark.slow
def test_keypoints_are_trained_evaluated_and_decide_the_best(tiny_config, train, tmp_path):
    unsure = ("SOLVER.MAX_ITER", 2, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)
    train(tiny_config(tmp_path, *unsure, config="relay_keypoint_rcnn_nl"))
    assert 0 <= summary(tmp_path)["results"]["keypoints/AP"] <= 100
    assert "loss_keypoint" in metrics(tmp_path)[0]
    assert (tmp_path / "model_best.pth").exists()


@pytest.mark.slow
def test_a_model_that_finds_nothing_has_no_ap_in_each_of_its_tasks(tiny_config, train, tmp_path):
    nothing = ("SOLVER.MAX_ITER", 1, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
    train(tiny_config(tmp_path, *nothing, config="relay_keypoint_rcnn_nl"))
    results = summary(tmp_path)["results"]
    assert results["bbox/AP"] is None and results["keypoints/AP"] is None


@pytest.mark.slow
def test_several_test_sets_are_told_apart_and_the_first_decides_the_best(
    tiny_config, train, tmp_path
):
    both = ("DATASETS.TEST", "('tiny_val', 'tiny_train')")
    train(tiny_config(tmp_path, "SOLVER.MAX_ITER", 1, *both))
    assert {"tiny_val/segm/AP", "tiny_train/segm/AP"} <= set(summary(tmp_path)["results"])
    assert (tmp_path / "model_best.pth").exists()


@pytest.mark.slow
def test_a_run_without_a_test_set_ends_well(tiny_config, train, tmp_path):
    train(tiny_config(tmp_path, "SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()"))
    assert (tmp_path / "model_final.pth").exists()
    assert summary(tmp_path)["results"] == {}


@pytest.mark.slow
def test_equal_seeds_train_equal_models(tiny_config, train, tmp_path):
    weights = []
    for name in ("one", "two"):
        cfg = tiny_config(tmp_path / name, "SOLVER.MAX_ITER", 2, "DATASETS.TEST", "()")
        train(cfg)
        weights.append(torch.load(tmp_path / name / "model_final.pth")["model"])
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


@pytest.mark.slow
def test_evaluations_leave_the_training_as_it_is_without_them(
    tiny_config, train, tmp_path, monkeypatch
):
    evaluate_model, evaluated = Trainer.test, []
    counting = lambda cls, *args: evaluated.append(1) or evaluate_model(*args)  # noqa: E731
    monkeypatch.setattr(Trainer, "test", classmethod(counting))
    weights = []
    for period in (0, 1):
        folder = tmp_path / str(period)
        train(tiny_config(folder, "SOLVER.MAX_ITER", 3, "TEST.EVAL_PERIOD", period))
        weights.append(torch.load(folder / "model_final.pth")["model"])
    assert len(evaluated) == 1 + 3
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])


# --- evaluation ------------------------------------------------------------------------------


@pytest.fixture
def load_cfg(tiny_config, tmp_path):
    """A config that evaluates a checkpoint."""

    def make(weights, *overrides):
        return tiny_config(tmp_path / "evaluated", "MODEL.WEIGHTS", weights, *overrides)

    return make


def test_an_evaluation_repeats_the_end_of_training(trained, load_cfg):
    cfg = load_cfg(trained.folder / "model_final.pth")
    results = evaluate(cfg)
    ended = summary(trained.folder)["results"]
    assert same(results) == same(ended)
    folder = Path(cfg.OUTPUT_DIR)
    assert same(summary(folder, "evaluation.json")["results"]) == same(ended)
    assert detections(folder) == detections(trained.folder) != []


@pytest.mark.slow
def test_an_evaluation_resumes_the_last_checkpoint(trained, caplog):
    with caplog.at_level(logging.INFO):
        results = evaluate(trained.cfg, resume=True)
    assert same(results) == same(summary(trained.folder)["results"])
    assert f"from {trained.folder / 'model_'}" in caplog.text


@pytest.mark.slow
def test_a_baseline_evaluated_as_a_non_local_model_is_the_baseline(
    tiny_config, train, tmp_path, caplog
):
    baseline, blocks = tmp_path / "baseline", tmp_path / "blocks"
    train(tiny_config(baseline, "SOLVER.MAX_ITER", 4, config="relay_mask_rcnn"))
    with caplog.at_level(logging.INFO):
        results = evaluate(tiny_config(blocks, "MODEL.WEIGHTS", baseline / "model_final.pth"))
    assert same(results) == same(summary(baseline)["results"])
    assert detections(blocks) == detections(baseline) != []
    assert "Not in the file: backbone.bottom_up.res4.nonlocal4 (8)." in caplog.text


def test_an_evaluation_of_a_model_that_was_never_trained_is_refused(trained, load_cfg, tmp_path):
    state = torch.load(trained.folder / "model_final.pth", weights_only=False)["model"]
    resnet = {k: v for k, v in state.items() if k.startswith("backbone.bottom_up.")}
    torch.save({"model": resnet}, tmp_path / "resnet.pth")
    with pytest.raises(UsageError, match=r"lacks .* of this model's tensors"):
        evaluate(load_cfg(tmp_path / "resnet.pth"))


def test_an_evaluation_with_a_head_for_other_classes_is_refused(trained, load_cfg):
    cfg = load_cfg(trained.folder / "model_final.pth", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    with pytest.raises(UsageError, match=r"lacks .* of this model's tensors"):
        evaluate(cfg)


def test_an_evaluation_without_weights_is_refused(load_cfg):
    with pytest.raises(UsageError, match=r"MODEL\.WEIGHTS"):
        evaluate(load_cfg(""))
