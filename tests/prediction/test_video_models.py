"""tools/demo.py with a model of videos: classes, frames, JSON, arrows, and a user's mistakes."""

import json
import sys

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from helpers import load_tool, randomise
from media import CONFIGS, is_blank, list_names, read_video, save_image
from PIL import Image
from video_files import break_frame, picture, write_sound, write_video
from video_models import randomise_batch_norms

from nl_detectron.data.video.mapper import make_mapper
from nl_detectron.data.video.sampling import Views
from nl_detectron.engine import load_config, load_model
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.prediction.classes import draw_classes, top_classes
from nl_detectron.prediction.clips import read_clip
from nl_detectron.prediction.predictor import load_prediction_config
from nl_detectron.prediction.video_predictor import classify_video

THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.VIDEO.FRAMES", "4", "INPUT.VIDEO.RATE", "2"),
    *("TEST.VIDEO.SHORT_SIDE", "48", "TEST.VIDEO.CLIPS", "2"),
    *("MODEL.NONLOCAL.BACKBONE.AFTER", "['res3.0', 'res4.0']"),
]
VIEWS = Views(frames=4, rate=2, clips=2, crops=3, crop_size=48, short_side=48)


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    cfg = load_config(str(CONFIGS / "relay_video_c2d_nl.yaml"), THIN)
    torch.manual_seed(1)
    model = randomise_batch_norms(build_model(cfg))
    torch.nn.init.normal_(model.linear.weight)
    for block in find_blocks(model).values():
        randomise(block, std=0.1)
    path = tmp_path_factory.mktemp("weights") / "video.pth"
    torch.save({"model": model.state_dict()}, path)
    return [*THIN, "MODEL.WEIGHTS", str(path)]


@pytest.fixture
def run(opts, tmp_path):
    """Runs the tool; returns its exit code and the lines of classes.jsonl."""

    def call(*words, config="relay_video_c2d_nl", more=()):
        words = ["--config-file", CONFIGS / f"{config}.yaml", *words, "--output", tmp_path / "out"]
        code = load_tool("demo").main([*map(str, words), "--opts", *opts, *more])
        text = (tmp_path / "out/classes.jsonl").read_text()
        return code, [json.loads(line) for line in text.splitlines()]

    return call


@pytest.mark.slow
def test_a_video_gets_its_classes_as_in_an_evaluation(run, opts, tmp_path, capsys):
    file = write_video(tmp_path / "film.mp4", 21)
    code, [line] = run("--input", file)
    assert (code, line["file"], line["output"], line["frames"]) == (0, str(file), "film.mp4", 21)
    cfg = load_config(str(CONFIGS / "relay_video_c2d_nl.yaml"), opts)
    with torch.no_grad():
        [output] = load_model(cfg).model([make_mapper(cfg, False)({"file_name": str(file)})])
    expected = output["scores"].mean(dim=0)
    assert output["scores"].shape == (6, 3)
    order = expected.argsort(descending=True).tolist()
    assert [one["class_id"] for one in line["classes"]] == order
    scores = [one["score"] for one in line["classes"]]
    assert scores == pytest.approx(expected.sort(descending=True)[0].tolist(), abs=1e-6)
    names = ("square", "disc", "cross")
    assert all(one["class_name"] == names[one["class_id"]] for one in line["classes"])
    assert "1 video(s) -> " in capsys.readouterr().out
    made = read_video(tmp_path / "out/film.mp4")
    assert made.shape[0] == 21 and made.shape[2] == 428 and made.shape[1] > 320 + 3 * 20
    assert (made[0, 320:] < 100).any() and (made[0, 320:] > 200).mean() > 0.5  # words on white
    assert list_names(tmp_path / "out") == ["classes.jsonl", "film.mp4"]
    _, [line] = run("--input", file, "--confidence-threshold", str(scores[0] - 1e-4))
    assert len(line["classes"]) == 1
    _, [line] = run("--input", file, more=["TEST.VIDEO.ENSEMBLE", "max"])
    most = output["scores"].max(dim=0)[0].max().item()
    assert line["classes"][0]["score"] == pytest.approx(most, abs=1e-6)


@pytest.mark.slow
def test_attention_is_drawn_and_its_arrows_written(run, tmp_path):
    file = write_video(tmp_path / "film.mp4", 21)
    code, [line] = run("--input", file, "--attention", "12,60,10")
    picture = Image.open(tmp_path / "out" / line["attention"]["picture"])
    assert code == 0 and line["attention"]["picture"] == "film.attention.png"
    assert not is_blank(tmp_path / "out/film.attention.png") and picture.width > picture.height / 4
    blocks = line["attention"]["blocks"]
    assert [one["block"] for one in blocks] == [
        "backbone.res3.nonlocal0",
        "backbone.res4.nonlocal0",
    ]
    for one, cell in zip(blocks, (8, 16), strict=True):
        assert one["form"] == "embedded_gaussian"
        # the clip is around frame 12, from 8 on, and blocks have a frame for two of its four
        assert one["from"]["frame"] == 12 and abs(one["from"]["x"] - 60) <= cell / 2
        weights = [arrow["weight"] for arrow in one["to"]]
        assert weights == sorted(weights, reverse=True) and 0 < sum(weights) <= 1
        assert {arrow["frame"] for arrow in one["to"]} <= {8, 12}
        assert all(0 <= arrow["x"] <= 64 and 0 <= arrow["y"] <= 48 for arrow in one["to"])
    _, [line] = run("--input", file, "--attention", "auto")
    assert line["attention"]["blocks"][0]["from"]["frame"] in (6, 10)


def test_what_cannot_be_read_or_looked_at_is_skipped(run, tmp_path, capsys):
    folder = tmp_path / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 9)
    write_sound(folder / "sound.mp4")
    (folder / "broken.MKV").write_bytes(b"no video")
    (folder / "notes.txt").write_text("no video either")
    image = save_image(tmp_path / "image.png")
    code, [line] = run("--input", folder, image, "nowhere.mp4", "--attention", "99,1,1")
    said = capsys.readouterr().err
    assert code == 1 and line["output"] == "a.mp4" and "attention" not in line
    assert f"skipped {image}: it is an image, and this model takes videos" in said
    assert "skipped nowhere.mp4: no such file or folder" in said
    assert f"skipped {folder}/sound.mp4: it has no video stream (only audio)" in said
    assert f"skipped {folder}/broken.MKV: it cannot be opened" in said
    assert f"skipped attention of {folder}/a.mp4: it has frames 0 to 8, not 99" in said
    assert "notes.txt" not in said


def test_nothing_is_left_of_a_video_that_breaks_off_as_it_is_drawn(run, tmp_path, capsys):
    """Its classes are those of frames that can be read."""
    files = [write_video(tmp_path / f"{name}.mp4", 100, key_every=1) for name in ("a", "b")]
    break_frame(files[0], 30)  # the clips have frames 0 to 6 and 50 to 56
    code, [line] = run("--input", *files)
    assert code == 1 and line["file"] == str(files[1])
    assert list_names(tmp_path / "out") == ["b.mp4", "classes.jsonl"]
    assert f"skipped {files[0]}: it cannot be decoded (" in capsys.readouterr().err


@pytest.mark.parametrize(("step", "rate"), [(1, 30), (45000, 2), (900000, 0.1)])
def test_a_video_of_any_rate_is_written(run, tmp_path, step, rate):
    """Rates are 90000 frames a second, as broken timestamps give, 2, and one in ten seconds."""
    file = write_video(tmp_path / "film.mp4", 5, times=lambda n: step * n)
    code, [line] = run("--input", file)
    made = cv2.VideoCapture(str(tmp_path / "out/film.mp4"))
    assert (code, line["frames"], made.get(cv2.CAP_PROP_FPS)) == (0, 5, rate)


def test_where_no_video_can_be_read_it_says_so(run, tmp_path, capsys):
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(UsageError, match="nothing could be read, so nothing is drawn"):
        run("--input", tmp_path / "broken.mp4")
    assert f"skipped {tmp_path}/broken.mp4: it cannot be opened" in capsys.readouterr().err


def test_a_model_without_blocks_shows_classes_alone(run, opts, tmp_path, capsys):
    file = write_video(tmp_path / "film.mp4", 5, draw=lambda n: picture(n, 336, 448))
    tensors = torch.load(opts[-1])["model"]
    plain = {name: tensor for name, tensor in tensors.items() if "nonlocal" not in name}
    torch.save({"model": plain}, tmp_path / "plain.pth")
    more = ["MODEL.NONLOCAL.BACKBONE.AFTER", "[]", "MODEL.WEIGHTS", str(tmp_path / "plain.pth")]
    code, [line] = run("--input", file, "--attention", "auto", config="relay_video_c2d", more=more)
    assert code == 0 and len(line["classes"]) == 3 and "attention" not in line
    assert "no non-local blocks, so classes alone follow" in capsys.readouterr().err
    made = read_video(tmp_path / "out/film.mp4")
    assert made.shape[2] == 448  # a frame that is large enough keeps its size


def test_views_that_do_not_fit_into_memory_are_reported(opts, tmp_path):
    class Full(torch.nn.Module):
        def forward(self, batch):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    cfg = load_config(str(CONFIGS / "relay_video_c2d_nl.yaml"), opts)
    file = write_video(tmp_path / "film.mp4", 5)
    with pytest.raises(UsageError, match=r"6 views at once .*: give a smaller TEST\.VIDEO\.BATCH"):
        classify_video(cfg, Full(), str(file))


@pytest.mark.slow
def test_videos_of_one_name_get_two(run, tmp_path):
    files = [write_video(tmp_path / f"a.{ending}", 5) for ending in ("mp4", "mkv")]
    _, lines = run("--input", *files, "--attention", "auto")
    assert [line["output"] for line in lines] == ["a.mp4", "a-2.mp4"]
    assert lines[1]["attention"]["picture"] == "a-2.attention.png"


@pytest.mark.parametrize(
    ("config", "words", "reported"),
    [
        ("relay_video_c2d_nl", ["--webcam"], "--webcam is for models of images, and this is"),
        ("relay_video_c2d_nl", ["--scores"], "--scores is for models of images"),
        ("relay_video_c2d_nl", ["--batch-size", "2"], "TEST.VIDEO.BATCH has the views at once"),
        (
            "relay_video_c2d_nl",
            ["--attention", "4,5"],
            "--attention 4,5: expected FRAME,X,Y or auto",
        ),
        ("relay_mask_rcnn_nl", ["--attention", "1,4,5"], "--attention 1,4,5: expected X,Y or auto"),
        (
            "relay_video_c2d_nl",
            ["--input", "nowhere.mp4"],
            "nothing of --input can be read: give vi",
        ),
        ("relay_video_c2d_nl", ["--output", "."], "which a picture could replace"),
    ],
)
def test_mistakes_are_reported(opts, tmp_path, monkeypatch, config, words, reported):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "a.mp4", 5)
    if "--webcam" not in words and "--input" not in words:
        words = ["--input", "a.mp4", *words]
    first = ["--config-file", str(CONFIGS / f"{config}.yaml"), "--output", "out"]
    weights = opts if "video" in config else ["MODEL.WEIGHTS", "unread.pth"]
    with pytest.raises(UsageError) as caught:
        load_tool("demo").main([*first, *words, "--opts", *weights])
    assert reported in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "reported"),
    [
        (["TEST.VIDEO.CROP_SIZE", "64"], "CROP_SIZE is 64, but TEST.VIDEO.SHORT_SIDE 48: give a"),
        (["TEST.VIDEO.CROP_SIZE", "0"], "takes whole frames, but TEST.VIDEO.CROPS is 3"),
    ],
)
def test_views_that_no_evaluation_has_are_refused(opts, words, reported):
    config = str(CONFIGS / "relay_video_c2d_nl.yaml")
    with pytest.raises(UsageError, match=reported):
        load_prediction_config(config, [*opts, *words], [], 0.0, print)


def test_without_pyav_one_line_says_how_to_get_it(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UsageError, match=r"pip install nl_detectron\[video\], or make setup-video"):
        run("--input", "a.mp4")


@pytest.mark.parametrize(
    ("around", "numbers"),
    [(None, (6, 8, 10, 12)), (3, (0, 2, 4, 6)), (20, (13, 15, 17, 19)), (12, (8, 10, 12, 14))],
)
def test_a_clip_to_look_into_stays_in_its_video(tmp_path, around, numbers):
    file = write_video(tmp_path / "film.mp4", 21)
    clip = read_clip(str(file), VIEWS, around)
    assert clip.numbers == numbers and clip.pixels.shape == (3, 4, 48, 64)


def test_a_point_of_a_video_is_found_in_its_clip(tmp_path):
    file = write_video(tmp_path / "film.mp4", 21, draw=lambda n: picture(n, 96, 144))
    clip = read_clip(str(file), VIEWS)
    assert clip.pixels.shape == (3, 4, 48, 72) and clip.numbers == (6, 8, 10, 12)
    assert clip.locate(9, 100, 30) == (1, 50, 15) and clip.in_video(1, 50, 15) == (8, 100, 30)
    assert clip.locate(0, 144, 96) == (0, 72, 48)
    with pytest.raises(ValueError, match="x 145, y 5 lies outside its 144 x 96 pixels"):
        clip.locate(0, 145, 5)


def test_bars_are_as_long_as_scores():
    classes = top_classes(np.array([0.1, 0.0, 0.9]), ["a", "b", "c"])
    assert [one.label for one in classes] == ["c 90%", "a 10%", "b 0%"]
    assert top_classes(np.array([0.1, 0.9]), None, 0.5)[0].label == "class 1 90%"
    drawn = draw_classes(classes, 400)
    blue = (np.abs(drawn.astype(int) - (0, 114, 178)).max(axis=2) < 20).sum(axis=1)
    assert blue.max() == pytest.approx(0.9 * 0.3 * 400, abs=3)
    assert draw_classes([], 400).min() < 100  # it says so
