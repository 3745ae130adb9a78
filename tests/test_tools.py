"""The command-line tools that no other test runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from helpers import load_tool

TOOLS = Path(__file__).parents[1] / "tools"


def annotation(image, number, **more):
    return {"id": number, "image_id": image, "iscrowd": 0, **more}


CONTENT = {
    "images": [{"id": i} for i in (1, 2, 3, 4)],
    "annotations": [
        annotation(1, 1, num_keypoints=0),
        annotation(2, 2, num_keypoints=3),
        annotation(2, 3, num_keypoints=5),
        annotation(3, 4, num_keypoints=1),
        {**annotation(4, 5, num_keypoints=9), "iscrowd": 1},
    ],
    "categories": [{"id": 1}],
}


@pytest.mark.parametrize(
    ("count", "max_objects", "images", "annotations"),
    [(8, 100, [2, 3], [2, 3, 4]), (1, 100, [2], [2, 3]), (8, 1, [3], [4])],
)
def test_a_subset_has_the_first_images_with_something_to_learn(
    count, max_objects, images, annotations
):
    chosen = load_tool("subset_coco").subset(CONTENT, count, max_objects)
    assert [i["id"] for i in chosen["images"]] == images
    assert [a["id"] for a in chosen["annotations"]] == annotations
    assert chosen["categories"] == CONTENT["categories"]


def test_a_subset_is_written_in_cocos_layout(tmp_path):
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/train2017").mkdir()
    file = "annotations/instances_train2017.json"
    (tmp_path / "coco" / file).write_text(json.dumps(CONTENT))
    words = ["--coco", tmp_path / "coco", "--output", tmp_path / "tiny/coco", "--images", "1"]
    subprocess.run([sys.executable, TOOLS / "subset_coco.py", *words], check=True)
    assert len(json.loads((tmp_path / "tiny/coco" / file).read_text())["images"]) == 1
    assert (tmp_path / "tiny/coco/train2017").resolve() == (tmp_path / "coco/train2017").resolve()


def test_a_subset_of_what_is_not_there_is_refused(tmp_path):
    words = ["--coco", tmp_path / "nothing", "--output", tmp_path / "tiny"]
    done = subprocess.run(
        [sys.executable, TOOLS / "subset_coco.py", *words], capture_output=True, text=True
    )
    assert done.returncode
    assert "there is no folder" in done.stderr
    assert not (tmp_path / "tiny").exists()
