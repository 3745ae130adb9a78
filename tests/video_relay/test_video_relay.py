"""The spacetime relay: what its videos show, its files, and its data sets."""

import json
import sys
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from coco_files import restore_catalogues
from detectron2.data import DatasetCatalog, MetadataCatalog

from nl_detectron.errors import UsageError
from nl_detectron.video_relay import (
    VIDEO_RELAY,
    VideoRelay,
    cache_folder,
    draw_clip,
    register_split,
    write_videos,
)
from nl_detectron.video_relay.clips import _mask
from nl_detectron.video_relay.spec import CLASSES, SHAPES

SMALL = VideoRelay(train=3, val=2)
LABELS = (torch.arange(3) + torch.arange(2)[:, None]) % 3  # by shape, for red and for blue


def test_one_picture_has_a_patch_another_one_a_shape():
    relay, counts = VideoRelay(gap=2, farthest=4), np.zeros((3, 2), dtype=int)
    for number in range(120):
        clip = draw_clip(relay, "train", number)
        assert clip.frames.shape == (8, 56, 56, 3) and clip.frames.dtype == np.uint8
        colours = np.ptp(clip.frames.astype(int), axis=3) > 100
        white = clip.frames.min(axis=3) > 200
        assert np.flatnonzero(colours.any(axis=(1, 2))).tolist() == [clip.patch]
        assert np.flatnonzero(white.sum(axis=(1, 2)) > 20).tolist() == [clip.shape]
        assert 2 <= abs(clip.patch - clip.shape) <= 4
        border = np.ones((56, 56), dtype=bool)
        border[4:-4, 4:-4] = False
        assert not (colours | white)[:, border].any()
        is_blue = clip.frames[clip.patch][colours[clip.patch]][0].argmax() == 2
        area = white[clip.shape].sum()
        shape = min(range(3), key=lambda i: abs(_mask(SHAPES[i], 18).sum() - area))
        assert clip.label == (shape + is_blue) % 3
        counts[shape, int(is_blue)] += 1
    assert counts.min() > 8  # each shape with each colour, so neither gives the class away


def test_shapes_differ_and_look_the_same_in_a_mirror():
    masks = [_mask(shape, 18) for shape in SHAPES]
    for mask in masks:
        assert (mask == mask[:, ::-1]).all()
    for one, other in permutations(masks, 2):
        assert (one != other).mean() > 0.1


def test_a_sum_over_frames_is_best_if_it_ignores_the_patch():
    """Its scores are a vector for the colour plus one for the shape."""
    vectors = [torch.randn(2, 1, 3, requires_grad=True), torch.randn(1, 3, 3, requires_grad=True)]
    optimizer = torch.optim.LBFGS(vectors, max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        value = torch.nn.functional.cross_entropy(sum(vectors).flatten(0, 1), LABELS.flatten())
        value.backward()
        return value

    optimizer.step(loss)
    probabilities = sum(vectors).detach().softmax(dim=-1)
    of_labels = probabilities.gather(-1, LABELS[..., None])
    assert of_labels.sub(0.5).abs().max() < 0.02


def test_a_sum_over_frames_can_be_right_for_five_kinds_in_six():
    """Not for all six: that needs D_0 > D_1 > D_2 > D_0, for D the colours' difference."""
    colour = torch.tensor([[0.5, 0.0, -0.5], [-0.5, 0.0, 0.5]])[:, None]
    shape = torch.tensor([[0.0, 0.0, -9.0], [-9.0, 0.0, 0.0], [0.0, -9.0, 2.0]])
    assert ((colour + shape).argmax(dim=-1) == LABELS).sum() == 5


def test_videos_depend_on_seed_split_and_number_alone():
    frames = [
        draw_clip(relay, split, number).frames
        for relay, split, number in (
            (SMALL, "train", 1),
            (SMALL, "train", 2),
            (SMALL, "val", 1),
            (replace(SMALL, seed=1), "train", 1),
        )
    ]
    assert (draw_clip(SMALL, "train", 1).frames == frames[0]).all()
    assert all((frames[0] != other).any() for other in frames[1:])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gap": 8}, "a gap of 1 to less than the number of pictures"),
        ({"gap": 3, "farthest": 2}, "a farthest of 0 or of the gap or more"),
        ({"size": 55}, "an even size"),
        ({"hold": 0}, "expected a hold of 1 or more"),
        ({"patch": 3}, "a patch and a shape of 4 or more"),
        ({"size": 24, "margin": 4}, "a patch and a shape of at most 16"),
    ],
)
def test_settings_without_room_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        VideoRelay(**options)


def test_files_are_mp4s_of_these_pictures_and_written_once(tmp_path, monkeypatch):
    pytest.importorskip("av", reason="needs PyAV: make setup-video")
    from video_files import decode_everything

    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))
    folder = write_videos(SMALL)
    assert folder == cache_folder(SMALL) and folder.parent == tmp_path / "cache"
    assert folder != cache_folder(replace(SMALL, seed=1))
    lines = [line.split() for line in (folder / "train.txt").read_text().splitlines()]
    assert [name for name, _ in lines] == [f"train/{i:05d}.mp4" for i in range(3)]
    places = json.loads((folder / "train.json").read_text())
    for number, (name, label) in enumerate(lines):
        clip = draw_clip(SMALL, "train", number)
        assert label == CLASSES[clip.label]
        assert places[number] == {"video_id": name, "patch": clip.patch, "shape": clip.shape}
        frames = decode_everything(folder / name)
        expected = np.repeat(clip.frames, SMALL.hold, axis=0)
        assert frames.shape == expected.shape
        grey = frames.mean(axis=3) - expected.mean(axis=3)
        assert np.abs(grey).mean() < 8
        assert np.ptp(frames[2 * clip.patch].astype(int), axis=2).max() > 80  # the patch's colour
    before = (folder / "train.txt").stat().st_mtime_ns
    write_videos(SMALL)
    assert (folder / "train.txt").stat().st_mtime_ns == before
    assert [path.name for path in folder.parent.glob(".*")] == []


def test_without_pyav_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install nl_detectron\[video\]"):
        write_videos(SMALL, tmp_path / "videos")
    assert not list(tmp_path.iterdir())
    (tmp_path / "videos").mkdir()
    assert write_videos(SMALL, tmp_path / "videos") == tmp_path / "videos"  # which are there


def test_registered_sets_are_written_when_they_are_loaded(tmp_path, monkeypatch):
    pytest.importorskip("av", reason="needs PyAV: make setup-video")
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path))
    with restore_catalogues():
        register_split("small_val", SMALL, "val")
        register_split("small_val", SMALL, "val")
        assert not list(tmp_path.iterdir())
        assert MetadataCatalog.get("small_val").classes == list(CLASSES)
        records = DatasetCatalog.get("small_val")
    assert [record["label"] for record in records] == [
        draw_clip(SMALL, "val", number).label for number in range(2)
    ]
    names = {f"{name}_{split}" for name in VIDEO_RELAY for split in ("train", "val")}
    assert names <= set(DatasetCatalog.list())
