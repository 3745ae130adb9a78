"""Videos and cameras, in and out."""

import cv2
import pytest
from media import make_pixels, read_video, save_image, save_video

from nl_detectron.errors import UsageError
from nl_detectron.prediction.outputs import Mp4Writer, OutputWriter


@pytest.mark.slow
@pytest.mark.parametrize("name", ["film.mp4", "film.avi"])
def test_a_video_becomes_a_video(run, tmp_path, name):
    code, lines = run("--input", save_video(tmp_path / name), "--batch-size", 2)
    assert code == 0
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert {line["output"] for line in lines} == {"film.mp4"}
    made = read_video(tmp_path / "out/film.mp4")
    assert made.shape == (5, 320, 480, 3)  # larger than 64 x 96, for labels to be read
    assert made.std() > 5
    assert cv2.VideoCapture(str(tmp_path / "out/film.mp4")).get(cv2.CAP_PROP_FPS) == 12


@pytest.mark.slow
def test_attention_stands_below_the_frames_at_one_size(run, tmp_path):
    paths = [save_video(tmp_path / "film.mp4"), save_image(tmp_path / "image.png")]
    code, lines = run("--input", *paths, "--attention", "auto", least="0.66")
    counts = {len(line["detections"]) for line in lines[:5]}
    assert code == 0 and len(counts) > 1  # so that the panels are not all of as many detections
    made = read_video(tmp_path / "out/film.mp4")
    height, width = made.shape[1:3]
    assert len(made) == 5 and height > 500 and width > 1000
    assert made[:, 320:].std() > 5


def test_a_films_frames_have_one_even_size(tmp_path):
    made = Mp4Writer(tmp_path / "film.mp4", 25)
    for height, width in ((63, 97), (63, 97), (32, 48)):
        made.add(make_pixels(height, width))
    made.close()
    assert read_video(tmp_path / "film.mp4").shape == (3, 64, 98, 3)


def test_an_mp4_that_cannot_be_written_is_reported(tmp_path):
    made = Mp4Writer(tmp_path / "nowhere/film.mp4", 25)
    with pytest.raises(UsageError, match="cannot write an mp4 of 96 x 64; install"):
        made.add(make_pixels(64, 96))


class Camera:
    """Stands in for cv2.VideoCapture: ``frames`` images, then what ``after`` does."""

    opened, frames, after, there = (), 3, None, True

    def __init__(self, number, *_):
        Camera.opened = (*Camera.opened, number)
        self.left = self.frames

    def isOpened(self):
        return self.there

    def get(self, _):
        return 0.0  # some cameras do not tell their rate

    def read(self):
        if self.left:
            self.left -= 1
            return True, make_pixels(64, 96, self.left)
        if self.after:
            raise self.after
        return False, None

    def release(self):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("after", [None, KeyboardInterrupt()])
def test_a_camera_runs_until_it_ends_or_is_stopped(run, tmp_path, monkeypatch, after):
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", Camera)
        patch.setattr(Camera, "after", after)
        patch.setattr(Camera, "opened", ())
        code, lines = run("--webcam", 2)
        assert set(Camera.opened) == {2}
    assert code == 0
    assert [(line["file"], line["frame"]) for line in lines] == [("webcam2", n) for n in range(3)]
    assert len(read_video(tmp_path / "out/webcam2.mp4")) == 3


def test_the_key_q_ends_a_camera_where_there_are_windows(run, tmp_path, monkeypatch):
    keys = iter([-1, ord("q")])
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    for name, does in (
        ("imshow", lambda *_: None),
        ("waitKey", lambda _: next(keys)),
        ("destroyAllWindows", lambda: None),
    ):
        monkeypatch.setattr(cv2, name, does, raising=False)
    code, lines = run("--webcam")
    assert code == 0 and len(lines) == 2


def test_a_camera_that_is_not_there_is_reported(run, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "there", False)
    with pytest.raises(UsageError, match="--webcam 1: there is no such camera"):
        run("--webcam", 1)


def test_a_camera_without_a_frame_is_reported(run, monkeypatch, capsys):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "frames", 0)
    with pytest.raises(UsageError, match="nothing could be read"):
        run("--webcam")
    assert "skipped webcam0: no frame of it can be read" in capsys.readouterr().err


@pytest.mark.slow
def test_what_is_written_when_stopped_is_whole(run, tmp_path, monkeypatch):
    write, count = OutputWriter.write, []

    def stop(*args):
        write(*args)
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(OutputWriter, "write", stop)
    with pytest.raises(KeyboardInterrupt):
        run("--input", save_video(tmp_path / "film.mp4"))
    assert len(read_video(tmp_path / "out/film.mp4")) == 3
    assert len((tmp_path / "out/detections.jsonl").read_text().splitlines()) == 3
