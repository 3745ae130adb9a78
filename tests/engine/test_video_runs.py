"""Runs of video models on real files: training, resuming, evaluation, and what is refused."""

import json
import logging
import os
import re

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from coco_files import MASK, restore_catalogues
from config_kinds import ROOT
from video_files import write_sound, write_video
from video_processes import CONFIG, SETS, THIN, TINY, evaluate_weights, make_config, register

from nl_detectron.data.video.dataset import VideoDataset
from nl_detectron.engine import Trainer, argument_parser, distributed, evaluate
from nl_detectron.engine import video_evaluation as evaluation
from nl_detectron.engine.video_scores import ScoreFiles, VideoScores
from nl_detectron.errors import UsageError
from nl_detectron.video_relay import write_videos


@pytest.fixture(scope="module")
def tiny_videos(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, restore_catalogues():
        patch.setenv("NL_DETECTRON_CACHE", str(tmp_path_factory.mktemp("cache")))
        write_videos(TINY)
        register()
        yield


@pytest.fixture
def config(tiny_videos, tmp_path):
    def make(*overrides, folder="run"):
        return make_config(tmp_path / folder, *overrides)

    return make


def weights(folder) -> dict:
    return torch.load(folder / "model_final.pth", weights_only=False)["model"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_a_resumed_run_has_the_weights_of_one_that_was_not_stopped(
    config, train, tmp_path, workers
):
    words = ("DATALOADER.NUM_WORKERS", workers)
    train(config(*words, folder="whole"))
    train(config(*words, "SOLVER.MAX_ITER", 2, folder="parts"))
    (tmp_path / "parts" / "model_final.pth").unlink()
    train(config(*words, folder="parts"), "--resume")
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


@pytest.mark.slow
def test_a_run_reports_accuracy_of_one_view_on_the_way_and_of_all_at_its_end(
    config, train, tmp_path
):
    train(config("TEST.EVAL_PERIOD", 2))
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert set(summary["results"]) == {"video/top1", "video/top1_1view"}
    lines = (tmp_path / "run/metrics.json").read_text().splitlines()
    metrics = {k: v for line in lines for k, v in json.loads(line).items()}
    assert {"video/top1_1view", "video_classifier/accuracy"} <= metrics.keys()
    assert (tmp_path / "run/model_best.pth").exists()
    assert [scores.ensemble.shape for scores in kept(tmp_path).values()] == [(3,)] * 5


def kept(tmp_path) -> dict[str, VideoScores]:
    """The scores that the last evaluation has kept."""
    folder = tmp_path / "run/inference/tiny_video_val"
    head = (folder / "scores-0.jsonl").read_text().split("\n")[0]
    return ScoreFiles(folder, json.loads(head)["fingerprint"], 0).start()


@pytest.mark.slow
def test_one_view_is_the_same_alone_and_among_all(config, train, tmp_path):
    trainer = train(config("TEST.VIDEO.CLIPS", 3))
    every = kept(tmp_path)
    one = Trainer.test(config("TEST.VIDEO.CLIPS", 3, "TEST.VIDEO.ONE_VIEW", True), trainer.model)
    assert set(one["video"]) == {"top1_1view"}
    alone = kept(tmp_path)
    assert alone.keys() == every.keys()
    for name, scores in alone.items():
        np.testing.assert_allclose(scores.one_view, every[name].one_view, atol=1e-6)
        assert (scores.ensemble == scores.one_view).all()


class Killed(Exception):
    pass


@pytest.mark.slow
def test_a_stopped_evaluation_goes_on_and_other_weights_begin_anew(
    config, train, tmp_path, monkeypatch, caplog
):
    cfg = config()
    trainer = train(cfg)
    expected = trainer._last_eval_results
    scores = tmp_path / "run/inference/tiny_video_val/scores-0.jsonl"
    scores.unlink()
    done, real = [], evaluation.VideoEvaluator.process

    def process(self, inputs, outputs):
        if len(done) == 3 and "stop" not in done:
            raise Killed
        real(self, inputs, outputs)
        done.extend(sample["video_id"] for sample in inputs)

    monkeypatch.setattr(evaluation.VideoEvaluator, "process", process)
    with pytest.raises(Killed):
        Trainer.test(cfg, trainer.model)
    first = list(done)
    done[:] = ["stop"]
    caplog.set_level(logging.INFO, "nl_detectron")
    assert Trainer.test(cfg, trainer.model) == expected
    assert len(first) == 3 and len(done[1:]) == 2 and not set(first) & set(done)
    assert "3 of 5 videos were evaluated before" in caplog.text
    done[:] = ["stop"]
    assert Trainer.test(cfg, trainer.model) == expected
    assert done == ["stop"]  # nothing was left to do
    with torch.no_grad():
        next(trainer.model.parameters()).add_(0.1)
    Trainer.test(cfg, trainer.model)
    assert len(done[1:]) == 5
    done[:] = ["stop"]
    Trainer.test(config("TEST.VIDEO.ENSEMBLE", "max"), trainer.model)
    assert len(done[1:]) == 5


@pytest.mark.slow
def test_precise_batch_norm_takes_clips_of_training(config, train, tmp_path):
    words = ("TEST.PRECISE_BN.ENABLED", True, "TEST.PRECISE_BN.NUM_ITER", 3)
    train(config("SOLVER.BASE_LR", 1e-30, folder="plain"))
    train(config("SOLVER.BASE_LR", 1e-30, *words, folder="precise"))
    plain, precise = weights(tmp_path / "plain"), weights(tmp_path / "precise")
    name = "backbone.stem.conv1.norm.running_mean"
    # four steps of momentum 0.1 have moved the plain one a third of the way from zero
    ratio = plain[name] / precise[name]
    assert (ratio > 0.2).all() and (ratio < 0.5).all()


@pytest.mark.slow
def test_evaluation_of_a_checkpoint_is_that_of_training(config, train, tmp_path, restore_loggers):
    trainer = train(config())
    cfg = config("MODEL.WEIGHTS", tmp_path / "run/model_final.pth", folder="again")
    assert evaluate(cfg) == trainer._last_eval_results


@pytest.mark.several
def test_two_processes_evaluate_each_video_once_and_as_one_does(
    config, train, tmp_path, monkeypatch
):
    trainer = train(config())
    one = kept(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    line = ["--num-gpus", "2", "--dist-url", "auto", "MODEL.DEVICE", "cpu"]
    words = (tmp_path / "run/model_final.pth", tmp_path / "two/run")
    distributed.launch(evaluate_weights, words, argument_parser().parse_args(line), "cpu")
    results = json.loads((tmp_path / "two/run/evaluation.json").read_text())["results"]
    assert results == {f"video/{k}": v for k, v in trainer._last_eval_results["video"].items()}
    files = sorted((tmp_path / "two/run/inference/tiny_video_val").iterdir())
    assert [file.name for file in files] == ["scores-0.jsonl", "scores-1.jsonl"]
    assert [len(file.read_text().splitlines()) for file in files] == [1 + 3, 1 + 2]
    two = kept(tmp_path / "two")
    assert two.keys() == one.keys()
    for name in one:
        np.testing.assert_allclose(two[name].ensemble, one[name].ensemble, atol=1e-6)


@pytest.fixture
def own(tmp_path):
    """Writes videos and a list; returns the words of --dataset."""

    def make(text="a.mp4 run\nb.mp4 jump\n", name="own_train", extra=()):
        for video in ("a", "b"):
            write_video(tmp_path / f"{video}.mp4", 6)
        (tmp_path / f"{name}.txt").write_text(text)
        return ["--dataset", f"{name}={tmp_path / name}.txt:{tmp_path}"]

    with restore_catalogues():
        yield make


@pytest.mark.slow
def test_own_lists_set_the_classes_and_train(own, load_args, train, tmp_path):
    words = [*own(), *own("a.mp4 run\n", "own_val")]
    output = ("OUTPUT_DIR", str(tmp_path / "run"), "SOLVER.MAX_ITER", "1")
    cfg, args = load_args(CONFIG, *words, opts=[*THIN, *output])
    assert cfg.MODEL.VIDEO.NUM_CLASSES == 2
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("own_train",), ("own_val",))
    assert any("NUM_CLASSES 3 -> 2" in note for note in args.notes)
    assert DatasetCatalog.get("own_val")[0]["label"] == 1
    assert train(cfg)._last_eval_results["video"].keys() == {"top1", "top1_1view"}


def test_charades_sets_several_labels(own, load_args, tmp_path):
    own()
    (tmp_path / "c.csv").write_text("id,actions\na,c003 0 1;c150 0 1\nb,\n")
    words = ["--dataset", f"own_train={tmp_path}/c.csv:{tmp_path}"]
    cfg, _ = load_args(CONFIG, *words, opts=THIN)
    assert cfg.MODEL.VIDEO.MULTI_LABEL and cfg.MODEL.VIDEO.NUM_CLASSES == 157
    assert MetadataCatalog.get("own_train").multi_label


@pytest.mark.slow
def test_bad_videos_are_named_replaced_and_counted(own, load_args, train, tmp_path, caplog):
    write_sound(tmp_path / "s.mp4")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    words = own("a.mp4 run\nb.mp4 jump\ns.mp4 run\nbroken.mp4 jump\n")
    options = [*THIN, "OUTPUT_DIR", str(tmp_path / "run"), "SEED", "3"]
    cfg, _ = load_args(CONFIG, *words, opts=options)
    with pytest.raises(UsageError, match=r"video .*(s|broken)\.mp4 \(id .*check_dataset\.py"):
        train(cfg)
    cfg, _ = load_args(CONFIG, *words, opts=[*options, "DATALOADER.MAX_BAD_SAMPLES", "20"])
    assert train(cfg).bad_samples > 0
    assert re.search(r"video .*(s|broken)\.mp4 \(id .*: another one replaces it", caplog.text)


@pytest.mark.slow
def test_images_and_videos_are_not_mixed(refusal, own, tiny_videos, birds):
    said = refusal(MASK, *own())
    assert said.startswith("--dataset own_train has videos, but this model (GeneralizedRCNN) takes")
    said = refusal(CONFIG, *birds(), opts=THIN)
    assert said.startswith(
        "--dataset birds_train has images, but this model (VideoClassifier) takes"
    )
    said = refusal(CONFIG, opts=[*THIN, "DATASETS.TRAIN", "('relay_train',)"])
    assert said.startswith("data set 'relay_train' has images, but this model (VideoClassifier)")
    said = refusal(MASK, opts=["MODEL.DEVICE", "cpu", *SETS])
    assert said.startswith(
        "data set 'tiny_video_train' has videos, but this model (GeneralizedRCNN)"
    )
    said = refusal(ROOT / "configs/Demo/relay_mask_rcnn.py", *own(), opts=())
    assert said.startswith("--dataset own_train has videos, but a LazyConfig's model takes images")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("INPUT.VIDEO.CROP_SIZE", 64), "INPUT.VIDEO.CROP_SIZE is 64, but INPUT.MIN_SIZE_TRAIN"),
        (("TEST.VIDEO.CROP_SIZE", 64), "TEST.VIDEO.CROP_SIZE is 64, but TEST.VIDEO.SHORT_SIDE 32"),
        (("TEST.VIDEO.CROP_SIZE", 0), "takes whole frames, but TEST.VIDEO.CROPS is 3"),
        (("TEST.VIDEO.CROPS", 2), "TEST.VIDEO.CROPS: expected 1 or 3, got 2"),
        (("TEST.VIDEO.ENSEMBLE", "mean"), "TEST.VIDEO.ENSEMBLE: expected one of average, max"),
        (("INPUT.VIDEO.FRAMES", 0), "INPUT.VIDEO.FRAMES: expected an integer above 0, got 0"),
        (("VISUALIZE.PERIOD", 5), "VISUALIZE.PERIOD is 5, but pictures in training are of im"),
        (
            ("MODEL.VIDEO.NUM_CLASSES", 4),
            "NUM_CLASSES is 4, but 'tiny_video_train' has 3 class",
        ),
        (("MODEL.VIDEO.MULTI_LABEL", True), "MULTI_LABEL is True, but a video of"),
        (
            ("DATALOADER.SAMPLER_TRAIN", "RepeatFactorTrainingSampler"),
            "which counts the objects of images",
        ),
    ],
)
def test_what_cannot_run_is_refused_before_training(refusal, tiny_videos, words, message):
    assert message in refusal(CONFIG, opts=[*THIN, *SETS, *words])


def test_kinetics_of_other_classes_is_refused_when_it_is_loaded(own, config, tmp_path):
    """Its lists are not read before."""
    own()
    (tmp_path / "a_000001_000011.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    (tmp_path / "k.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nrun,a,1,11,train\n"
    )
    VideoDataset("k400", str(tmp_path / "k.csv"), str(tmp_path)).register_unread()
    cfg = config("DATASETS.TRAIN", "('k400',)")
    with pytest.raises(UsageError, match=r"NUM_CLASSES is 3, but 'k400' has 1 class\(es\): give 1"):
        Trainer.build_train_loader(cfg)


def test_paths_outside_need_permission(refusal, own, tmp_path):
    words = own(f"../{tmp_path.name}/a.mp4 run\n/b.mp4 jump\n")
    assert "2 path(s) lead out of its video folder" in refusal(CONFIG, *words, opts=THIN)
