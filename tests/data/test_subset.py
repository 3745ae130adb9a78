"""Small subsets of COCO, and the tool that writes them."""

import json
import runpy
import sys
from pathlib import Path

import pytest

from nl_detectron.data.subset import subset

TOOL = Path(__file__).parents[2] / "tools" / "subset_coco.py"


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
    chosen = subset(CONTENT, count, max_objects)
    assert [i["id"] for i in chosen["images"]] == images
    assert [a["id"] for a in chosen["annotations"]] == annotations
    assert chosen["categories"] == CONTENT["categories"]


@pytest.fixture
def run(monkeypatch):
    """Runs the tool with words of the command line."""

    def main(*words) -> None:
        monkeypatch.setattr(sys, "argv", ["subset_coco.py", *map(str, words)])
        runpy.run_path(str(TOOL), run_name="__main__")

    return main


def test_a_subset_is_written_in_cocos_layout(run, tmp_path):
    (tmp_path / "coco/annotations").mkdir(parents=True)
    (tmp_path / "coco/train2017").mkdir()
    file = "annotations/instances_train2017.json"
    (tmp_path / "coco" / file).write_text(json.dumps(CONTENT))
    run("--coco", tmp_path / "coco", "--output", tmp_path / "tiny/coco", "--images", "1")
    assert len(json.loads((tmp_path / "tiny/coco" / file).read_text())["images"]) == 1
    assert (tmp_path / "tiny/coco/train2017").resolve() == (tmp_path / "coco/train2017").resolve()


def test_a_subset_of_a_missing_folder_is_refused(run, tmp_path):
    with pytest.raises(SystemExit, match="there is no folder"):
        run("--coco", tmp_path / "nothing", "--output", tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
