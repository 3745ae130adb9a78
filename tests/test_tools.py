"""The command-line tools that no other test runs."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"


def load_tool(name):
    spec = importlib.util.spec_from_file_location(name, TOOLS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


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


def test_the_demos_table_sets_a_run_beside_the_recorded_ones(tmp_path, monkeypatch):
    demo = load_tool("relay_demo")
    monkeypatch.setattr(demo, "RECORD", tmp_path / "record.json")
    found = {"relay_nl": [(80.0, 90.0), (84.0, 92.0)], "relay": [(30.0, 31.0)]}
    records = [
        {"name": name, "threads": 1, "box": box, "mask": mask}
        for name, aps in found.items()
        for box, mask in aps
    ]
    of_two_threads = {"name": "relay_nl", "threads": 2, "box": 1.0, "mask": 1.0}
    demo.RECORD.write_text(json.dumps([*records, of_two_threads]))
    lines = demo.table("relay_nl", 3, {"box": 82.0, "mask": 91.5, "minutes": 5}).splitlines()
    assert lines[0].split() == ["held-out", "images", "box", "AP", "mask", "AP"]
    assert "seed 3, this run" in lines[2] and lines[2].endswith("82.0                 91.5")
    assert "82.0 (80.0 to 84.0)" in lines[3] and "91.0 (90.0 to 92.0)" in lines[3]
    assert lines[4].startswith("relay, 1 recorded") and "30.0 (30.0 to 30.0)" in lines[4]


def test_the_readmes_figures_are_of_the_recorded_runs():
    records = json.loads((TOOLS.parent / "docs/relay_demo.json").read_text())
    readme = (TOOLS.parent / "README.md").read_text()
    for model, tasks in (("mask", ("box", "mask")), ("keypoint", ("keypoint",))):
        for name in (f"relay_{model}_rcnn_nl", f"relay_{model}_rcnn"):
            runs = [r for r in records if r["name"] == name and r["threads"] == 1]
            for task in tasks:
                aps = [run[task] for run in runs]
                mean = sum(aps) / len(aps)
                assert f"{mean:.1f} ({min(aps):.1f} to {max(aps):.1f})" in readme
