"""A user's data in COCO's format: from the command line's word to Detectron2's catalogues."""

import json
import pickle
from pathlib import Path

import pytest
from coco_files import KEYPOINTS, dataset_argument, restore_catalogues, valid_content, write
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import create_keypoint_hflip_indices

from nl_detectron.data import CocoDataset
from nl_detectron.data.keypoints import connection_rules, flip_pairs, unpaired


@pytest.fixture(autouse=True)
def own_catalogues():
    with restore_catalogues():
        yield


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("birds_train=a/b.json:c", ("birds_train", "a/b.json", "c")),
        ("birds-2.val=b.json:/c/d", ("birds-2.val", "b.json", "/c/d")),
        # colons and equality signs in paths
        ("b=C:/x/b.json:C:/x/images", ("b", "C:/x/b.json", "C:/x/images")),
        ("b=at 10:30/k=v.json:im:ages", ("b", "at 10:30/k=v.json", "im:ages")),
        (
            "b=s3://bucket/b.json:s3://bucket/images",
            ("b", "s3://bucket/b.json", "s3://bucket/images"),
        ),
    ],
)
def test_a_word_has_a_name_a_file_and_a_folder(text, parts):
    assert CocoDataset.parse(text) == CocoDataset(*parts)


@pytest.mark.parametrize(
    "text", ["", "birds", "birds=a.json", "birds=a.json:", "=a.json:b", "a b=a.json:b", "b=a.txt:c"]
)
def test_a_word_of_another_form_is_reported(text):
    with pytest.raises(ValueError, match=r"expected NAME=ANNOTATIONS\.json:IMAGE_FOLDER") as caught:
        CocoDataset.parse(text)
    assert repr(text) in str(caught.value)


def test_it_is_registered_with_names_flips_and_skeleton(tmp_path):
    data = write(tmp_path, valid_content())
    CocoDataset.parse(dataset_argument(data)).register()
    meta = MetadataCatalog.get("birds_train")
    assert meta.thing_classes == ["jay", "owl"]  # by their ids, 3 and 20
    assert len(meta.thing_colors) == 2 and meta.thing_colors[0] != meta.thing_colors[1]
    assert meta.keypoint_names == KEYPOINTS
    assert meta.keypoint_flip_map == [("left_wing", "right_wing")]
    assert [rule[:2] for rule in meta.keypoint_connection_rules] == [
        ("beak", "left_wing"),
        ("beak", "right_wing"),
    ]
    assert create_keypoint_hflip_indices("birds_train") == [0, 2, 1]
    assert meta.evaluator_type == "coco"


def test_it_loads_with_classes_numbered_without_gaps(tmp_path):
    write(tmp_path, valid_content()).register()
    first, second = DatasetCatalog.get("birds_train")
    assert [a["category_id"] for a in first["annotations"]] == [1, 0]
    assert [a["category_id"] for a in second["annotations"]] == [0, 1]
    assert Path(first["file_name"]) == tmp_path / "images" / "a.png"
    assert MetadataCatalog.get("birds_train").thing_dataset_id_to_contiguous_id == {3: 0, 20: 1}


def test_data_without_keypoints_tells_of_none(tmp_path):
    content = valid_content()
    for category in content["categories"]:
        del category["keypoints"], category["skeleton"]
    write(tmp_path, content).register()
    assert MetadataCatalog.get("birds_train").get("keypoint_names") is None


def test_more_classes_than_colours_have_one_each(tmp_path):
    content = valid_content()
    content["categories"] = [{"id": i, "name": f"bird {i}"} for i in range(200)]
    write(tmp_path, content).register()
    assert len(MetadataCatalog.get("birds_train").thing_colors) == 200


def test_another_process_needs_no_file_to_register_it(tmp_path):
    data = write(tmp_path, valid_content())
    info = data.info
    Path(data.annotations).unlink()
    there = pickle.loads(pickle.dumps(data))
    there.register()
    assert there.info == info
    assert MetadataCatalog.get("birds_train").thing_classes == ["jay", "owl"]


def test_registering_twice_is_once_and_a_taken_name_is_reported(tmp_path):
    data = write(tmp_path, valid_content())
    data.register()
    CocoDataset(data.name, data.annotations, data.images).register()
    for other in (
        CocoDataset(data.name, data.annotations, "elsewhere"),
        CocoDataset("coco_2017_val", "a", "b"),
    ):
        with pytest.raises(ValueError, match=f"'{other.name}' is taken"):
            other.register()


def test_a_file_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        CocoDataset("birds", str(tmp_path / "birds.json"), str(tmp_path)).register()
    assert "birds" not in DatasetCatalog.list()


def test_masks_of_crowds_are_not_counted_as_rle(tmp_path):
    content = valid_content()
    assert write(tmp_path, content).info.rle is False
    content["annotations"][3]["iscrowd"] = 0
    assert write(tmp_path, content).info.rle is True


# --- keypoints -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("left_eye", "right_eye"),
        ("eye-left", "eye-right"),
        ("Left Eye", "Right Eye"),
        ("LeftEye", "RightEye"),
        ("leftEye", "rightEye"),
        ("l_eye", "r_eye"),
        ("eye.L", "eye.R"),
        ("LEye", "REye"),
        ("lEye2", "rEye2"),
        ("LEFT_EYE", "RIGHT_EYE"),
        ("wing_left_tip", "wing_right_tip"),
    ],
)
def test_names_that_differ_in_their_side_are_a_pair(left, right):
    assert flip_pairs(["tail", left, "crown", right]) == [(left, right)]
    assert flip_pairs([right, left]) == [(right, left)]
    assert unpaired(["tail", left, "crown", right]) == []


@pytest.mark.parametrize(
    "names",
    [["eye", "ear"], ["leftover", "rightover"], ["1", "2"], ["legl", "legr"], ["左眼", "右眼"]],
)
def test_names_without_a_side_are_no_pair(names):
    assert flip_pairs(names) == []
    assert unpaired(names) == []


def test_a_side_without_its_other_is_reported():
    assert unpaired(["left_eye", "right_ear", "beak"]) == ["left_eye", "right_ear"]


def test_cocos_own_names_give_cocos_own_pairs():
    meta = MetadataCatalog.get("keypoints_coco_2017_val")
    assert flip_pairs(meta.keypoint_names) == list(meta.keypoint_flip_map)


def test_a_skeleton_counts_from_one():
    rules = connection_rules(["a", "b", "c"], [[1, 2], [3, 2]])
    assert [rule[:2] for rule in rules] == [("a", "b"), ("c", "b")]
    assert all(0 <= level <= 255 for *_, colour in rules for level in colour)
    for wrong in ([[0, 1]], [[1, 2], [3, 4]], [[1, 2, 3]], ["ab"], [1, 2], "ab"):
        assert connection_rules(["a", "b", "c"], wrong) == []


# --- real images ---------------------------------------------------------------------------------

FIVE = 5  # COCO's nose, eyes and ears


@pytest.fixture
def faces(shared, tmp_path) -> CocoDataset:
    """COCO's people with five keypoints, under a number of their own beside another class."""
    source = shared / "coco_mini" / "annotations" / "person_keypoints_val2017.json"
    content = json.loads(source.read_text())
    names = content["categories"][0]["keypoints"][:FIVE]
    content["categories"] = [
        {"id": 90, "name": "person", "keypoints": names, "skeleton": [[1, 2], [1, 3]]},
        {"id": 14, "name": "nobody"},
    ]
    for annotation in content["annotations"]:
        points = annotation["keypoints"][: 3 * FIVE]
        labelled = sum(v > 0 for v in points[2::3])
        annotation.update(category_id=90, keypoints=points, num_keypoints=labelled)
    file = tmp_path / "faces.json"
    file.write_text(json.dumps(content))
    return CocoDataset("faces_val", str(file), str(shared / "coco_mini" / "val2017"))


def test_real_data_with_five_keypoints_is_sound_and_loads(faces):
    assert faces.info.errors == ()
    faces.register()
    records = DatasetCatalog.get("faces_val")
    annotations = [a for record in records for a in record["annotations"]]
    assert {a["category_id"] for a in annotations} == {1}
    assert {len(a["keypoints"]) for a in annotations} == {3 * FIVE}
    assert create_keypoint_hflip_indices("faces_val") == [0, 2, 1, 4, 3]
    assert all(Path(record["file_name"]).exists() for record in records)
