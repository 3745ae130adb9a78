"""Accuracy by the distance in time, and how far convs reach."""

import numpy as np
import pytest
import torch
from coco_files import restore_catalogues
from torch import nn
from video_results import TINY

from benchmarks import video_seeds
from benchmarks.video_distance import accuracy_by_distance, frames_seen
from benchmarks.video_page import reach
from benchmarks.video_runs import BLOCK, C2D, I3D, Job
from nl_detectron.engine.video_scores import ScoreFiles, VideoScores
from nl_detectron.modeling import build_model
from nl_detectron.video_relay import VIDEO_RELAY, register_split, write_videos


def scores_of(*classes: int) -> dict[str, VideoScores]:
    """Scores of videos "0", "1" and so on, in which the ensemble has these classes and the one
    view has others."""
    return {
        str(number): VideoScores(np.eye(3)[found], np.eye(3)[(found + 1) % 3])
        for number, found in enumerate(classes)
    }


def test_accuracy_by_distance_counts_the_ensembles_class():
    labels = {"0": 2, "1": 0, "2": 1, "3": 2, "4": 0}
    distances = {"4": 7, "0": 3, "1": 3, "2": 3, "3": 5}
    assert accuracy_by_distance(scores_of(2, 1, 1, 0, 0), labels, distances) == [
        {"distance": 3, "videos": 3, "right": 2},
        {"distance": 5, "videos": 1, "right": 0},
        {"distance": 7, "videos": 1, "right": 1},
    ]
    with pytest.raises(ValueError, match="of the same videos, got 4, 5 and 5"):
        accuracy_by_distance(scores_of(2, 1, 1, 0), labels, distances)


@pytest.fixture
def evaluated(here, monkeypatch):
    """A config whose evaluation has left scores that are right for all videos but the first."""
    pytest.importorskip("av", reason="needs PyAV: make setup-video")
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(here / "cache"))
    monkeypatch.setitem(VIDEO_RELAY, "few", TINY)
    with restore_catalogues():
        write_videos(TINY)
        for split in ("train", "val"):
            register_split(f"few_{split}", TINY, split)
        cfg = Job(BLOCK, 101, 1).config()
        cfg.defrost()
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("few_train",), ("few_val",)
        files = ScoreFiles(here / cfg.OUTPUT_DIR / "inference/few_val", "key", 0)
        files.start()
        for number, record in enumerate(video_seeds.DatasetCatalog.get("few_val")):
            right = np.eye(3)[(record["label"] + (number == 0)) % 3]
            files.append(record["video_id"], VideoScores(right, right))
        yield cfg


def test_a_run_has_its_accuracy_by_distance(evaluated, monkeypatch):
    found = {"video": 83.3, "minutes": 0.1, "versions": {"torch": "2"}}
    monkeypatch.setattr(video_seeds, "train_relay_demo", lambda cfg: found)
    result = video_seeds.train_one(evaluated)
    counts = result["distances"]
    assert [sum(d[key] for d in counts) for key in ("videos", "right")] == [6, 5]
    assert {d["distance"] for d in counts} <= {1, 2, 3} and len(counts) > 1
    assert result["video"] == 83.3 and result["parameters"] > 10_000 and result["seconds"] >= 0
    found["video"] = 66.7
    with pytest.raises(RuntimeError, match=r"right for 5 of 6 videos, but .* accuracy is 66\.7"):
        video_seeds.train_one(evaluated)


STACK = nn.Sequential(
    nn.Conv3d(3, 2, (5, 3, 3), padding=(2, 1, 1)),  # 5 frames
    nn.MaxPool3d((3, 2, 2), (2, 2, 2), (1, 0, 0)),  # + 2, and steps of 2
    nn.Conv3d(2, 2, (3, 1, 1), dilation=(2, 1, 1), padding=(2, 0, 0)),  # + 2 x 2 x 2
    nn.Conv3d(2, 2, (1, 3, 3), padding=(0, 1, 1)),
    nn.MaxPool3d(2),  # + 1 x 2, and steps of 4
    nn.Conv3d(2, 2, 3, padding=1),  # + 2 x 4
)


@pytest.mark.parametrize(("layers", "frames"), [(1, 5), (2, 7), (3, 15), (4, 15), (5, 17), (6, 25)])
def test_the_frames_that_a_stack_sees_are_counted_by_hand(layers, frames):
    assert frames_seen(STACK[:layers], torch.zeros(1, 3, 8, 8, 8)) == frames


@pytest.mark.parametrize(("name", "distance"), [(C2D, 2), (I3D, 22)])
def test_the_demos_convs_reach_as_far_as_gradients(name, distance):
    """With weights above zero and means for maxima, all that counts has a gradient."""
    assert reach(name) == distance
    cfg = Job(name, 101, 1).config()
    backbone = build_model(cfg).backbone.double().eval()
    for module in list(backbone.modules()):
        for child, pool in list(module.named_children()):
            if isinstance(pool, nn.MaxPool3d):
                setattr(module, child, nn.AvgPool3d(pool.kernel_size, pool.stride, pool.padding))
        if isinstance(module, nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    clip = torch.ones(1, 3, 64, 32, 32, dtype=torch.double, requires_grad=True)
    last = backbone(clip)["res5"]
    [gradient] = torch.autograd.grad(last[:, :, last.shape[2] // 2].sum(), clip)
    reached = gradient.sum(dim=(0, 1, 3, 4)).nonzero()
    assert reached.max() - reached.min() == distance
