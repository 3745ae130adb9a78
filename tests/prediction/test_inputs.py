"""What the demo reads, and what it skips."""

from pathlib import Path

import cv2
import pytest
from media import is_blank, list_names, make_pixels, save_image
from PIL import Image

from nl_detectron.prediction.inputs import SkipReporter, Source, find_sources, read_batches


@pytest.mark.slow
def test_files_folders_and_patterns_are_drawn_and_equal_names_kept_apart(run, tmp_path):
    for name in ("a/one.png", "a/two.jpg", "b/one.jpg", "b/x/three.bmp", "c/ONE.png"):
        save_image(tmp_path / name)
    (tmp_path / "a/notes.txt").write_text("no image, and in a folder no matter\n" * 9)
    words = ["--input", tmp_path / "a", tmp_path / "b/**/*.*", "--input", tmp_path / "c/ONE.png"]
    code, lines = run(*words, tmp_path / "a/two.jpg")  # once more: it is drawn once
    assert code == 0
    pairs = [(str(Path(line["file"]).relative_to(tmp_path)), line["output"]) for line in lines]
    assert pairs == [
        ("a/one.png", "one.png"),
        ("a/two.jpg", "two.png"),
        ("b/one.jpg", "one-2.png"),
        ("b/x/three.bmp", "three.png"),
        ("c/ONE.png", "ONE-3.png"),
    ]
    assert list_names(tmp_path / "out") == sorted(
        [*(name for _, name in pairs), "detections.jsonl"]
    )
    assert not any(is_blank(tmp_path / "out" / name) for _, name in pairs)
    assert {line["frame"] for line in lines} == {None}


@pytest.mark.slow
def test_grey_and_transparent_images_and_turned_photographs(run, tmp_path):
    image = Image.fromarray(make_pixels(64, 96))
    image.convert("L").save(tmp_path / "grey.png")
    image.convert("RGBA").save(tmp_path / "clear.png")
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "suffixless", format="png")
    _, lines = run("--input", tmp_path / "*.*", tmp_path / "suffixless")
    sizes = {line["output"]: (line["height"], line["width"]) for line in lines}
    assert sizes == {
        "clear.png": (64, 96),
        "grey.png": (64, 96),
        "turned.png": (96, 64),
        "suffixless.png": (64, 96),
    }


def test_what_cannot_be_read_is_reported_and_skipped(run, tmp_path, capsys):
    save_image(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    whole = save_image(tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.mp4").write_bytes(b"nothing" * 99)
    (tmp_path / "notes.txt").write_text("FFmpeg takes this for a video\n" * 9)
    (tmp_path / "empty").mkdir()
    names = ["bad.png", "cut.png", "bad.mp4", "notes.txt", "empty", "nowhere.png", "*.gif"]
    paths = [tmp_path / name for name in names]
    code, lines = run("--input", *paths, tmp_path / "good.png")
    assert code == 1
    assert [line["output"] for line in lines] == ["good.png"]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert len(warnings) == len(paths)
    for path in paths:
        assert sum(f"skipped {path}: " in line for line in warnings) == 1


@pytest.mark.slow
def test_what_a_model_cannot_take_is_skipped_and_its_batch_is_not(run, tmp_path, capsys):
    paths = [
        save_image(tmp_path / "a.png"),
        save_image(tmp_path / "b.png", 1, 3000),
        save_image(tmp_path / "c.png"),
    ]
    code, lines = run("--input", *paths, "--batch-size", 3)
    assert code == 1
    assert [line["output"] for line in lines] == ["a.png", "c.png"]
    assert "b.png: the model cannot take 3000 x 1 pixels" in capsys.readouterr().err


def test_no_frame_is_read_before_it_is_asked_for(monkeypatch, tmp_path):
    read = []

    class Endless:
        def __init__(self, *_):
            pass

        def read(self):
            read.append(1)
            return True, make_pixels(8, 8)

        def release(self):
            read.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    source = Source("endless.mp4", True, None)
    some = read_batches([source], 3, SkipReporter(print))
    for number in range(4):
        assert len(read) == 3 * number
        assert [frame.number for frame in next(some)] == list(range(3 * number, 3 * number + 3))
    some.close()


def test_a_folder_that_cannot_be_read_is_skipped(tmp_path, monkeypatch):
    def listdir(path):
        raise PermissionError(13, "Permission denied", path)

    skipped = []
    monkeypatch.setattr("os.listdir", listdir)  # root may read any folder
    assert find_sources([str(tmp_path)], lambda *words: skipped.append(words)) == []
    assert skipped == [(str(tmp_path), "this folder cannot be read (Permission denied)")]
