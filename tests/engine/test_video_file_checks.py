"""What is wrong with a list's files is found before a training, and so is a missing PyAV."""

import logging
import sys

import pytest
from coco_files import restore_catalogues
from video_processes import CONFIG, THIN

from nl_detectron.data.video.dataset import VideoDataset
from nl_detectron.engine import preflight
from nl_detectron.engine.data_checks import check_files
from nl_detectron.errors import UsageError

LIST = "a.mp4 run\nb.mp4 jump\ngone/c d.mp4 run\ndangling.mp4 jump\n"


@pytest.fixture
def words(tmp_path):
    """--dataset of a list with two videos that are not there, of which one is a dead link."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.mp4").write_bytes(b"contents are not looked at")
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing.mp4")
    (tmp_path / "list.txt").write_text(LIST)
    with restore_catalogues():
        yield ["--dataset", f"own_train={tmp_path}/list.txt:{tmp_path}"]


@pytest.fixture
def opts(tmp_path):
    pytest.importorskip("av", reason="needs PyAV: make setup-video")
    return [*THIN, "OUTPUT_DIR", str(tmp_path / "run")]


def test_missing_videos_are_named_before_a_training(refusal, words, opts, tmp_path):
    said = refusal(CONFIG, *words, opts=opts)
    assert said == (
        f"data set 'own_train': 2 of its 4 videos are not in {tmp_path} or cannot be read: "
        "gone/c d.mp4, dangling.mp4. Correct the video folder or the file names, or start "
        "nevertheless with --no-check"
    )


def test_the_check_can_be_left_out(load_args, words, opts):
    preflight(*load_args(CONFIG, *words, "--no-check", opts=opts))


def test_videos_that_may_be_replaced_are_a_warning_in_training_alone(
    load_args, refusal, words, opts, caplog
):
    opts = [*opts, "DATALOADER.MAX_BAD_SAMPLES", "2"]
    with caplog.at_level(logging.WARNING):
        preflight(*load_args(CONFIG, *words, opts=opts))
    assert "dangling.mp4. They are replaced by others" in caplog.text
    as_test = [words[0], words[1].replace("own_train", "own_val")]
    assert "data set 'own_val': 2 of its 4" in refusal(CONFIG, *words, *as_test, opts=opts)


def test_a_registered_list_that_cannot_be_loaded_is_named(tmp_path):
    (tmp_path / "k.csv").write_text(
        "label,youtube_id,time_start,time_end,split\nrun,a,1,11,train\n"
    )
    with restore_catalogues():
        VideoDataset("k400", str(tmp_path / "k.csv"), str(tmp_path)).register_unread()
        with pytest.raises(UsageError, match=r"'k400' cannot be loaded: none of the 1 videos of"):
            check_files("k400")


def test_without_pyav_one_line_says_how_to_get_it(refusal, words, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)  # so that it does not import
    said = refusal(CONFIG, *words, opts=THIN)
    assert said.startswith("videos are read by PyAV, which does not import here (")
    assert said.endswith("): pip install nl_detectron[video], or make setup-video in a clone")
