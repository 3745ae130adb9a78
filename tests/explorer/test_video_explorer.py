"""The explorer of a video model: clips, points of their frames, and the page."""

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from helpers import load_tool
from video_files import picture, write_video

from nl_detectron.errors import UsageError
from nl_detectron.explorer import server, videos
from nl_detectron.explorer.images import find_images
from nl_detectron.explorer.models import load_explorer_model
from nl_detectron.explorer.videos import (
    Strip,
    VideoExplorer,
    describe_clip_classes,
    render_clip_point,
)

CONFIG = "configs/Demo/relay_video_c2d_nl.yaml"
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.VIDEO.FRAMES", "4"),
    *("TEST.VIDEO.SHORT_SIDE", "48"),
]


@pytest.fixture(scope="module")
def model():
    return load_explorer_model(CONFIG, THIN)


@pytest.fixture
def explorer(model):
    return VideoExplorer(model)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return str(write_video(folder / "film.mp4", 20, draw=lambda n: picture(n, 96, 128)))


@pytest.mark.slow
def test_a_point_is_reported_in_a_picture_and_words(explorer, file):
    look = explorer.look(file)
    [block] = look[1].blocks
    drawn, words = render_clip_point(look, 9, 100, 20, block)
    assert drawn.std() > 10 and drawn.shape[1] > drawn.shape[0] / 2
    # clip 6, 8, 10, 12, of which the block has a frame for two; cells of 32 pixels of the video
    assert words.startswith("**embedded_gaussian**, from frame 6, x 112, y 16: the greatest of ")
    assert "% in other frames." in words
    outside, _ = render_clip_point(look, 9, 1e4, -5, block)
    corner, _ = render_clip_point(look, 9, 128, 0, block)
    assert np.array_equal(outside, corner)
    words = describe_clip_classes(look, explorer.model.classes.classes)
    assert words.startswith("Frames 6 to 12: ") and words.count("%") == 3


def test_a_click_into_the_strip_is_a_point_of_the_video(explorer, file):
    clip, _ = explorer.look(file)
    strip = Strip(clip)
    height, width = strip.picture.shape[:2]
    assert height == 200 and width == 4 * (267 + 4)
    for number, frame in enumerate((6, 8, 10, 12)):
        at = strip.point(number * width / 4 + 267 / 2, 100)
        assert at[0] == frame and at[1:] == pytest.approx((64, 48), abs=1)
    assert strip.point(width - 1, height) == (12, 128, 96)  # the gap belongs to its frame


def test_the_model_runs_once_for_a_clip(explorer, file, monkeypatch):
    runs, real = [], videos.record_clip
    monkeypatch.setattr(videos, "record_clip", lambda *args: runs.append(args) or real(*args))
    assert explorer.look(file) is explorer.look(file) and len(runs) == 1
    assert explorer.look(file, 15)[0].numbers == (11, 13, 15, 17) and len(runs) == 2
    for around in range(videos.MAX_RECORDS):
        explorer.look(file, around)
    explorer.look(file)
    assert len(runs) == 2 + videos.MAX_RECORDS + 1


def test_what_cannot_be_looked_into_is_refused(explorer, file, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UsageError, match=r"^broken\.mp4: it cannot be opened"):
        explorer.look(str(tmp_path / "broken.mp4"))
    with pytest.raises(UsageError, match=r"^film\.mp4: it has frames 0 to 19, not 20"):
        explorer.look(file, 20)


def test_folders_of_videos_are_listed(file, tmp_path):
    folder = file.rpartition("/")[0]
    assert [path.name for path in find_images([folder], video=True)] == ["film.mp4"]
    with pytest.raises(UsageError, match=r"no video in it \(\.mp4 "):
        find_images([str(tmp_path)], video=True)


def test_two_models_are_compared_on_images_alone(monkeypatch):
    monkeypatch.setattr(server, "import_gradio", lambda folder: None)
    words = ["--config-file", CONFIG, "--compare-config", CONFIG, "--compare-opts", *THIN]
    with pytest.raises(UsageError, match="expected two models of images, one is of videos"):
        load_tool("explore").main([*words, "--opts", *THIN])


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("gradio"), reason="needs gradio: make explore")
def test_the_page_has_the_videos_and_the_blocks(explorer, file, tmp_path, monkeypatch):
    from nl_detectron.explorer.video_page import build_video_page

    monkeypatch.setattr(os, "environ", dict(os.environ))
    page = build_video_page(server.import_gradio(str(tmp_path)), explorer, [Path(file)])
    parts = {c["props"].get("elem_id"): c for c in page.get_config_file()["components"]}
    assert parts["image"]["props"]["value"] == file
    assert parts["block0"]["props"]["value"] == "backbone.res4.nonlocal0"
    assert {"frame", "x", "y", "picture", "arrows0", "jump"} <= parts.keys()
