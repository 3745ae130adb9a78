"""Image files are looked for before a run: quickly, and missing ones are named."""

import json
import logging

import pytest
from coco_files import restore_catalogues, valid_content, write
from detectron2.data.datasets import register_coco_instances

from nl_detectron.data.image_files import find_missing, list_file_names, read_file_names
from nl_detectron.engine.data_checks import check_files
from nl_detectron.errors import UsageError

NAMES = ["a.png", "folder/b.png", 'odd "name" é\\.png']


@pytest.fixture
def annotations(tmp_path):
    content = {"images": [{"id": i, "file_name": name} for i, name in enumerate(NAMES)]}
    (tmp_path / "all.json").write_text(json.dumps(content))
    return tmp_path / "all.json"


def test_names_are_found_in_the_text_as_in_the_json(annotations):
    assert list_file_names(str(annotations)) == read_file_names(str(annotations)) == NAMES
    annotations.write_text("")
    assert list_file_names(str(annotations)) == []


def test_missing_files_are_found_in_their_order(tmp_path):
    names = [f"{number}.jpg" for number in range(1200)]
    for name in names:
        (tmp_path / name).touch()
    gone = ["0.jpg", "500.jpg", "1199.jpg"]
    for name in gone:
        (tmp_path / name).unlink()
    assert find_missing(str(tmp_path), names) == gone


@pytest.fixture
def registered(tmp_path):
    """A data set whose second image is missing, and an annotation of which names a file."""
    content = valid_content()
    content["annotations"][0]["file_name"] = "no image.png"
    data = write(tmp_path, content)
    with restore_catalogues():
        register_coco_instances("registered", {}, data.annotations, data.images)
        check_files("registered")
        (tmp_path / "images" / "b.png").unlink()
        yield


def test_a_registered_data_set_is_checked_too(registered, caplog):
    message = r"1 of its 2 images are not in .*images or cannot be read: b\.png\. .*--no-check"
    with pytest.raises(UsageError, match=message):
        check_files("registered")
    with caplog.at_level(logging.WARNING):
        check_files("registered", tolerated=1)
    assert "b.png. They are replaced by others" in caplog.text
