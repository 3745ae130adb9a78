"""Names of a video model's classes, their scores over several views, and their lines."""

import numpy as np
import pytest
from coco_files import restore_catalogues
from video_models import tiny_video_cfg

from nl_detectron.data.video.dataset import VideoDataset
from nl_detectron.errors import UsageError
from nl_detectron.prediction.classes import (
    combine_views,
    draw_classes,
    find_class_names,
    top_classes,
)

LIST = "a.mp4 run\nb.mp4 jump\nc.mp4 swim\n"


@pytest.mark.parametrize(
    ("text", "count", "names"),
    [
        (LIST, 3, ["jump", "run", "swim"]),
        (LIST, 4, None),
        ("label,youtube_id,time_start,time_end,split\nrun,x,1,2,train\n", 1, ["run"]),  # no video
        ("alone\n", 3, None),
        (None, 3, None),
    ],
    ids=["all", "others", "without its videos", "malformed", "missing"],
)
def test_classes_have_the_names_of_a_list_that_was_not_read_before(text, count, names, tmp_path):
    if text:
        (tmp_path / "list.csv").write_text(text)
    said = []
    with restore_catalogues():
        VideoDataset("own_val", str(tmp_path / "list.csv"), str(tmp_path)).register_unread()
        cfg = tiny_video_cfg(NUM_CLASSES=count)
        cfg.DATASETS.TEST = ("own_val",)
        assert find_class_names(cfg, said.append) == names
    known = 3 if text == LIST else 0
    expected = f"the model has {count} and the data set 'own_val' names {known} here"
    assert [expected in line for line in said] == [True] * (names is None)


def test_classes_of_an_unknown_data_set_have_numbers():
    said = []
    cfg = tiny_video_cfg(NUM_CLASSES=3)
    cfg.DATASETS.TEST, cfg.DATASETS.TRAIN = (), ("nowhere_train",)
    assert find_class_names(cfg, said.append) is None
    assert "'nowhere_train' names 0 here" in said[0]


@pytest.mark.parametrize(
    ("ensemble", "expected"), [("average", [0.4, 0.35, 0.25]), ("max", [0.6, 0.5, 0.3])]
)
def test_views_are_combined_as_in_an_evaluation(ensemble, expected):
    views = np.array([[0.6, 0.2, 0.2], [0.2, 0.5, 0.3]])
    assert combine_views(views, ensemble, "a.mp4") == pytest.approx(expected)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_refused(value):
    with pytest.raises(UsageError, match=r"video a\.mp4: the model's scores are NaN or infinite"):
        combine_views(np.array([[0.5, value]]), "average", "a.mp4")


def test_a_long_name_is_cut_at_the_edge():
    short, long = (
        draw_classes(top_classes(np.array([0.5]), [name]), 300).min(axis=(0, 2))
        for name in ("run", "running after a ball in a large garden with friends")
    )
    dark = [np.flatnonzero(columns < 100).max() for columns in (short, long)]
    assert dark[0] < 200 < 260 < dark[1] < 295
