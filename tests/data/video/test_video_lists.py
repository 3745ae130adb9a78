"""Lists of videos: the kinds of lists, their classes, and data sets of them."""

import logging

import pytest
from coco_files import restore_catalogues
from detectron2.data import DatasetCatalog, MetadataCatalog

from nl_detectron.data.video.builtin import builtin_datasets
from nl_detectron.data.video.dataset import VideoDataset, share_classes
from nl_detectron.data.video.lists import class_names, read_list

KINETICS = "label,youtube_id,time_start,time_end,split\n"
CHARADES = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
)


@pytest.fixture(autouse=True)
def own_catalogues():
    with restore_catalogues():
        yield


@pytest.fixture
def listed(tmp_path):
    """Writes a list and empty files; returns a data set of it."""

    def write(text, files=(), name="own", list_name="list.txt", classes=None) -> VideoDataset:
        (tmp_path / list_name).write_text(text)
        if classes:
            (tmp_path / "classes.txt").write_text(classes)
        for file in files:
            (tmp_path / "videos" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "videos" / file).touch()
        return VideoDataset.parse(f"{name}={tmp_path / list_name}:{tmp_path / 'videos'}")

    return write


def labels_of(data: VideoDataset) -> dict:
    return {r["video_id"]: r.get("label", r.get("labels")) for r in data.load()}


def test_lines_of_a_path_and_a_number(listed, tmp_path):
    data = listed("# a comment\na b.mp4 2\n\nsub/c.mp4   0\n")
    assert data.info.classes == ("0", "1", "2") and not data.info.multi_label
    assert data.load() == [
        {"file_name": f"{tmp_path}/videos/a b.mp4", "video_id": "a b.mp4", "label": 2},
        {"file_name": f"{tmp_path}/videos/sub/c.mp4", "video_id": "sub/c.mp4", "label": 0},
    ]


def test_labels_may_be_names_and_a_file_has_all_classes(listed):
    data = listed("a.mp4 run\nb.mp4 jump\n")
    assert data.info.classes == ("jump", "run") and labels_of(data) == {"a.mp4": 1, "b.mp4": 0}
    data = listed("a.mp4 run\nb.mp4 1\n", classes="run\njump\nswim\n")
    assert data.info.classes == ("run", "jump", "swim")
    assert labels_of(data) == {"a.mp4": 0, "b.mp4": 1}


def test_commas_and_a_list_that_ends_in_csv(listed):
    data = listed("a.mp4,5\nb.mp4,0\n", list_name="pairs.csv")
    assert labels_of(data) == {"a.mp4": 5, "b.mp4": 0}


def test_kinetics_files_are_found_by_id_and_times(listed, tmp_path, caplog):
    rows = "riding a bike,abc_-1,12,22,train\narchery,xyz,0,10,train\narchery,gone,7,17,train\n"
    files = ["riding a bike/abc_-1_000012_000022.mp4", "xyz_000000_000010.mkv", "abc.txt"]
    data = listed(KINETICS + rows, files, list_name="train.csv")
    caplog.set_level(logging.WARNING)
    assert data.load() == [
        {
            "file_name": f"{tmp_path}/videos/{files[0]}",
            "video_id": "abc_-1_000012_000022",
            "label": 1,
        },
        {"file_name": f"{tmp_path}/videos/{files[1]}", "video_id": "xyz_000000_000010", "label": 0},
    ]
    assert "1 of 3 videos of the list are not below" in caplog.text


def test_charades_has_157_classes_and_several_in_a_video(listed):
    rows = (
        'AB1,s,,,,,"one, two",,,c092 11.90 21.20;c147 0.00 12.60;c092 1.0 2.0,24\n'
        "CD2,s,,,,,,,,,10\n"
    )
    data = listed(CHARADES + rows, list_name="Charades_v1_train.csv")
    assert data.info.multi_label and len(data.info.classes) == 157
    records = data.load()
    assert [r["labels"] for r in records] == [[92, 147], []]
    assert records[0]["file_name"].endswith("videos/AB1.mp4")


def test_charades_trainval_is_both_lists(listed, tmp_path):
    listed(CHARADES + "A,,,,,,,,,c001 0 1,9\n", list_name="b.csv")
    listed(CHARADES + "B,,,,,,,,,c002 0 1,9\n", list_name="a.csv")
    (tmp_path / "Charades_v1_classes.txt").write_text(
        "".join(f"c{i:03d} Doing number {i}\n" for i in range(157))
    )
    data = VideoDataset.parse(f"all={tmp_path}/b.csv+{tmp_path}/a.csv:{tmp_path}")
    assert labels_of(data) == {"A": [1], "B": [2]}
    assert data.info.classes[2] == "Doing number 2"


def test_training_and_validation_number_their_classes_alike(listed):
    train = listed("a.mp4 run\nb.mp4 jump\n", name="own_train", list_name="train.txt")
    val = listed("c.mp4 run\n", name="own_val", list_name="val.txt")
    assert labels_of(val) == {"c.mp4": 0}
    train, val = share_classes([train, val])
    assert train.info.classes == val.info.classes == ("jump", "run")
    assert labels_of(val) == {"c.mp4": 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.mp4 1\nalone\n", "line 2: expected a path and a label, got 'alone'"),
        ("", "has no videos"),
        ("a.mp4 0\na.mp4 1\n", "line 2: a.mp4 was listed before with another label"),
        (KINETICS + "run,,1,2,train\n", "line 2: expected a label, a youtube_id"),
        (KINETICS + "run,x,1,late,train\n", "line 2: expected a label, a youtube_id"),
        (KINETICS + "run,x,1,2,train\n", "none of the 1 videos .* expected names as YOUTUBEID"),
        ("youtube_id,time_start\nx,1\n", "so no classes"),
        (CHARADES + "A,,,,,,,,,jumping 1 2,9\n", "line 2: expected an id, and actions as"),
        ("a.mp4 1\nb.mp4 1700000000\n", "label 1700000000 is no number of a class: expected names"),
        pytest.param(f"a.mp4 {'9' * 5000}\n", "label 9{20} is no number", id="digits"),
        pytest.param(
            f'{CHARADES}A,"{"x," * 99_000}', "after line 1: .*; close a quote", id="open quote"
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(listed, text, message):
    with pytest.raises(ValueError, match=message):
        listed(text).load()


def test_unknown_labels_and_missing_lists_are_refused(listed, tmp_path):
    with pytest.raises(ValueError, match="line 2: label 'swim' is none of the 1 classes"):
        listed("a.mp4 run\nb.mp4 swim\n", classes="run\n").load()
    with pytest.raises(ValueError, match="there is no such file"):
        read_list(tmp_path / "gone.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(ValueError, match="cannot be read as text"):
        read_list(tmp_path / "binary.txt")
    for text in ("x=a.mp4:b", "a b=l.txt:v", "x=l.txt"):
        with pytest.raises(ValueError, match=r"expected NAME=LIST\.txt:VIDEO_FOLDER"):
            VideoDataset.parse(text)


def test_lists_of_two_kinds_are_no_data_set(listed, tmp_path):
    listed(CHARADES + "A,,,,,,,,,c001 0 1,9\n", list_name="a.csv")
    listed("b.mp4 0\n")
    data = VideoDataset("own", f"{tmp_path}/a.csv+{tmp_path}/list.txt", str(tmp_path))
    with pytest.raises(ValueError, match="are of different kinds: Charades, path label"):
        data.load()


def test_a_video_listed_twice_is_used_once(listed, caplog):
    caplog.set_level(logging.WARNING)
    assert labels_of(listed("a.mp4 1\na.mp4 1\nb.mp4 0\n")) == {"a.mp4": 1, "b.mp4": 0}
    assert "1 line(s) list a video again" in caplog.text


def test_registering_sets_what_runs_need(listed):
    data = listed("a.mp4 run\n", classes="run\njump\n", name="own_train")
    data.register()
    data.register()
    meta = MetadataCatalog.get("own_train")
    assert (meta.evaluator_type, meta.multi_label, meta.classes) == (
        "video",
        False,
        ["run", "jump"],
    )
    assert DatasetCatalog.get("own_train")[0]["label"] == 0
    with pytest.raises(ValueError, match="is taken"):
        listed("a.mp4 run\n", name="own_train", list_name="another.txt").register()


def test_kinetics_and_charades_are_registered_and_share_classes(tmp_path):
    found = {one.name: one for one in builtin_datasets(tmp_path)}
    assert set(found) <= set(DatasetCatalog.list())
    for name in found:
        assert MetadataCatalog.get(name).multi_label == name.startswith("charades")
    folder = tmp_path / "kinetics400"
    folder.mkdir()
    (folder / "train.csv").write_text(f"{KINETICS}run,x,1,2,train\narchery,y,1,2,train\n")
    (folder / "val.csv").write_text(f"{KINETICS}run,z,1,2,validate\n")
    assert found["kinetics400_val"].info.classes == ("archery", "run")
    assert found["charades_trainval"].files.count(".csv") == 2


def test_classes_of_no_list_are_none():
    assert class_names([]) == ()
