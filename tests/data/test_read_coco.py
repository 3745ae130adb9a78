"""A file that is not in COCO's format gives one message."""

import pytest

from nl_detectron.data.coco import read_coco

# a text, and a part of the message
UNREADABLE = [
    ("[" * 100_000, "nested too deeply"),
    ('{"info": ' + "[" * 600 + "]" * 600 + ', "images": [{}], "annotations": [], '
     '"categories": [{"id": 1, "name": "a"}]}', "nested too deeply"),
    ("", "cannot be read as JSON"),
    ("{", "cannot be read as JSON"),
    ("\ufeff{}", "cannot be read as JSON"),
    ("9" * 5000, "cannot be read as JSON"),
    ("null", "it holds a NoneType"),
    ("[1, 2]", "it holds a list"),
    ('{"images": [], "annotations": []}', "it lacks categories"),
    ('{"images": null, "annotations": [], "categories": []}', "images is not a list"),
    ('{"images": {}, "annotations": [], "categories": []}', "images is not a list"),
    ('{"images": [1], "annotations": [], "categories": []}', "images is not a list of objects"),
    ('{"images": [], "annotations": [], "categories": []}', "images is empty"),
    ('{"images": [{}], "annotations": [null], "categories": [{}]}', "annotations is not a list"),
    ('{"images": [{}], "annotations": [], "categories": []}', "categories is empty"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": 1}]}', "an integer id or a name"),
    ('{"images": [{}], "annotations": [], "categories": [{"name": "a"}]}', "lacks an integer id"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": true, "name": "a"}]}', "integer"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": null, "name": "a"}]}', "integer"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": 1e3, "name": "a"}]}', "integer"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": 1, "name": "\\ud800"}]}', "a name"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": ' + "9" * 30 + ', "name": "a"}]}',
     "integer"),
    ('{"images": [{}], "annotations": [], "categories": [{"id": 1, "name": "a", "keypoints": 5}]}',
     "keypoints of category 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), UNREADABLE)
def test_a_file_that_cannot_be_read_is_one_message(text, message, tmp_path):
    (tmp_path / "file.json").write_text(text)
    with pytest.raises(ValueError, match=r"file\.json") as caught:
        read_coco(tmp_path / "file.json")
    assert message in str(caught.value) and len(str(caught.value)) < 600


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(ValueError, match="there is no such file"):
        read_coco(tmp_path / "nothing.json")
