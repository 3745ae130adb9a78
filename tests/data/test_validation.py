"""Each kind of problem is found where it is, and nowhere else."""

import json

import numpy as np
import pycocotools.mask
import pytest
from bad_annotations import BAD
from coco_files import FILES, HEIGHT, WIDTH, valid_content, write
from PIL import Image

from nl_detectron.data.coco import read_coco
from nl_detectron.data.validation.checks import check_content, check_files
from nl_detectron.data.validation.issues import (
    EXAMPLES,
    ISSUE_TYPES,
    SEVERITIES,
    summarize_issues,
    worst_severity,
)
from nl_detectron.data.validation.values import is_rle_of


def found(content: dict) -> dict[str, tuple[str, ...]]:
    return {f.kind: f.examples for f in summarize_issues(check_content(content))}


def test_sound_data_has_no_problem(tmp_path):
    data = write(tmp_path, valid_content())
    assert found(valid_content()) == {}
    assert not list(check_files(valid_content(), data.images))
    assert worst_severity([]) == "info"


def of_annotation(**changes):
    """Changes the first annotation; None: leaves a key out."""

    def change(content: dict) -> None:
        annotation = content["annotations"][0]
        annotation.update(changes)
        for key in [k for k, v in changes.items() if v is None]:
            del annotation[key]

    return change


def of_entry(kind: str, **changes):
    def change(content: dict) -> None:
        content[kind][0].update(changes)

    return change


def with_keypoints(*numbers: float, count: int = 3):
    return of_annotation(keypoints=list(numbers), num_keypoints=count)


def nothing_annotated(content: dict) -> None:
    content["annotations"] = []


def no_keypoints_at_owls(content: dict) -> None:
    content["categories"][0]["keypoints"] = []


def more_images(content: dict) -> None:
    content["images"].append({"id": 7, "file_name": "c.png", "height": 9, "width": 9})


def crowds_alone(content: dict) -> None:
    for annotation in content["annotations"][:2]:
        annotation["iscrowd"] = 1


def same_again(content: dict) -> None:
    content["annotations"].append({**content["annotations"][0], "id": 77})


A = "annotation 1 of a.png"
POLYGON = [1, 1, 5, 5, 1, 5]
# of a change: what is found, and its first place
BROKEN = [
    ("incomplete image", "images[0]", lambda c: c["images"][0].pop("width")),
    ("image id twice", "image 6", of_entry("images", id=6)),
    ("class id twice", "category 3", of_entry("categories", id=3)),
    ("annotation id twice", "annotation 2", of_annotation(id=2)),
    ("incomplete annotation", A, of_annotation(bbox=None)),
    ("incomplete annotation", A, of_annotation(bbox=[])),
    ("incomplete annotation", "annotation None of a.png", of_annotation(id=None)),
    ("incomplete annotation", "annotation 1 of image [5]", of_annotation(image_id=[5])),
    ("unknown category", A, of_annotation(category_id=21)),
    ("malformed box", A, of_annotation(bbox=[1, 2, 3])),
    ("malformed box", A, of_annotation(bbox=[1, 2, 3, float("nan")])),
    ("malformed box", A, of_annotation(bbox=["1", "2", "3", "4"])),
    ("ignore is set", A, of_annotation(ignore=1)),
    ("no mask", A, of_annotation(segmentation=None)),
    ("no mask", A, of_annotation(segmentation=[])),
    ("malformed mask", A, of_annotation(segmentation=[1, 2, 3, 4, 5, 6])),
    ("malformed mask", A, of_annotation(segmentation={"size": [HEIGHT, WIDTH]})),
    ("malformed mask", A, of_annotation(segmentation="a.png")),
    (
        "mask of another size",
        A,
        of_annotation(segmentation={"counts": [WIDTH * HEIGHT], "size": [WIDTH, HEIGHT]}),
    ),
    ("keypoints differ", "class 'jay'", of_entry("categories", keypoints=["a", "b", "c"])),
    ("keypoint name twice", "class 'owl'", of_entry("categories", keypoints=["a", "a", "b"])),
    ("no keypoints", A, of_annotation(keypoints=None)),
    ("no keypoints", A, of_annotation(keypoints=[])),
    ("keypoint count", A, with_keypoints(1, 1, 2, 3, 3, 2)),
    ("keypoint count", A, with_keypoints(*[1] * 8)),
    ("malformed keypoints", A, with_keypoints(*[1] * 8, None)),
    ("no area or iscrowd", A, of_annotation(area=None)),
    ("no area or iscrowd", A, of_annotation(iscrowd=None)),
    ("no num_keypoints", A, of_annotation(num_keypoints=None)),
    ("unknown image", "annotation 1 of image 99", of_annotation(image_id=99)),
    ("image file twice", "b.png", of_entry("images", file_name="b.png")),
    ("annotation twice", "image 5, category 20, box [10, 10, 40, 30]", same_again),
    ("annotation id 0", "annotation 0 of a.png", of_annotation(id=0)),
    ("empty box", A, of_annotation(bbox=[10, 10, 0, 5])),
    ("empty box", A, of_annotation(bbox=[10, 10, 5, -3])),
    ("box outside its image", A, of_annotation(bbox=[70, 10, WIDTH - 68, 5])),
    ("box outside its image", A, of_annotation(bbox=[-2, 10, 5, 5])),
    ("broken polygon", A, of_annotation(segmentation=[[1, 1, 5, 5, 1, 5], [1, 1, 5, 5]])),
    ("first polygon without 3 points", A, of_annotation(segmentation=[[1, 1, 5, 5], POLYGON])),
    ("first polygon without 3 points", A, of_annotation(segmentation=[[1, 1], POLYGON])),
    ("first polygon without 3 points", A, of_annotation(segmentation=[[], POLYGON])),
    ("broken polygon", A, of_annotation(segmentation=[[1, 1, 5, 5, 1, 5, 3]])),
    ("flat polygon", A, of_annotation(segmentation=[[1, 1, 5, 5, 9, 9]])),
    ("keypoint outside its image", A, with_keypoints(1, 1, 2, WIDTH + 1, 3, 1, 3, 3, 2)),
    ("wrong num_keypoints", A, with_keypoints(1, 1, 2, 2, 2, 1, 0, 0, 0)),
    ("keypoints without names", A, no_keypoints_at_owls),
    ("broken skeleton", "class 'owl'", of_entry("categories", skeleton=[[0, 1]])),
    ("broken skeleton", "class 'owl'", of_entry("categories", skeleton=[[1, 4]])),
    ("broken skeleton", "class 'owl'", of_entry("categories", skeleton=[1, 2])),
    ("class name twice", "class 'jay'", of_entry("categories", name="jay")),
    ("class without annotations", "class 'owl'", of_entry("categories", id=4)),
    ("image without annotations", "c.png", more_images),
    ("nothing annotated", "the whole file", nothing_annotated),
    ("image of crowds alone", "a.png", crowds_alone),
]
# issues that the same change also causes, or that would repeat the expected one
ALONG = {
    "incomplete image": {"unknown image"},
    "image id twice": {"unknown image", "no mask"},
    "keypoint name twice": {"keypoints differ"},
    "class id twice": {"unknown category"},
    "class without annotations": {"unknown category"},
    "first polygon without 3 points": {"broken polygon"},
    "keypoints without names": {"keypoints differ", "broken skeleton"},
    "nothing annotated": {"class without annotations", "no labelled keypoints"},
}


@pytest.mark.parametrize(("kind", "place", "change"), BROKEN)
def test_a_problem_is_found_by_its_kind_and_place(kind, place, change):
    content = valid_content()
    change(content)
    content = json.loads(json.dumps(content))
    problems = found(content)
    assert problems[kind][0] == place
    assert set(problems) - ALONG.get(kind, set()) == {kind}


@pytest.mark.parametrize(("kind", "change"), BAD)
def test_bad_values_are_found_and_no_traceback(kind, change, tmp_path):
    data = write(tmp_path, valid_content())
    content = valid_content()
    change(content)
    (tmp_path / "birds_train.json").write_text(json.dumps(content))
    content = read_coco(data.annotations)
    problems = summarize_issues([*check_content(content), *check_files(content, data.images)])
    assert kind in [p.kind for p in problems]
    assert kind == "unknown image" or "error" in [p.severity for p in problems]
    assert all(len(str(p).encode()) < 1500 for p in problems)  # can be printed
    assert (kind == "unknown image") != bool(data.info.errors)


def test_compressed_masks_are_read_as_pycocotools_writes_them():
    rng = np.random.default_rng(0)
    for pixels in (rng.random((40, 50)) < 0.5, np.zeros((300, 400)), np.ones((70, 80))):
        mask = pycocotools.mask.encode(np.asfortranarray(pixels, np.uint8))
        text = mask["counts"].decode()
        assert is_rle_of(text, pixels.size)
        assert not is_rle_of(text, pixels.size + 1)
        assert not is_rle_of(text[:-1], pixels.size)


def test_rounding_is_no_problem():
    content = valid_content()
    content["annotations"][2].update(bbox=[-0.4, 0, WIDTH + 0.8, HEIGHT + 0.3])
    content["annotations"][2]["keypoints"][:2] = [WIDTH - 0.5, HEIGHT]
    assert found(content) == {}


def test_a_class_that_is_not_used_may_lack_keypoints():
    content = valid_content()
    content["categories"].append({"id": 0, "name": "birds"})
    assert list(found(content)) == ["class without annotations"]


def test_data_of_boxes_alone_has_no_problem():
    content = valid_content()
    for entry in content["annotations"] + content["categories"]:
        for key in ("segmentation", "keypoints", "num_keypoints", "skeleton"):
            entry.pop(key, None)
    assert found(content) == {}


def test_problems_are_counted_and_the_first_kept():
    content = valid_content()
    more = [{**content["annotations"][0], "id": 100 + i, "bbox": [1, 1, 0, i]} for i in range(9)]
    content["annotations"] += more
    [finding] = summarize_issues(check_content(content))
    assert (finding.kind, finding.count, len(finding.examples)) == ("empty box", 9, EXAMPLES)
    assert finding.examples[0] == "annotation 100 of a.png"
    assert str(finding).startswith("empty box (9: annotation 100 of a.png, ")
    assert str(finding).endswith(", …)")


def save(path, width=WIDTH, height=HEIGHT, mode="RGB", **more) -> None:
    Image.new(mode, (width, height)).save(path, **more)


def turned(path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # Orientation: turn by a quarter to show
    save(path.with_suffix(".jpg"), exif=exif)
    path.with_suffix(".jpg").rename(path)


FILE_PROBLEMS = {
    "missing image": lambda path: path.unlink(),
    "unreadable image": lambda path: path.write_bytes(path.read_bytes()[:-2000]),
    "image of more than 8 bits": lambda path: save(path, mode="I;16"),
    "width and height swapped": turned,
    "wrong image size": lambda path: save(path, height=HEIGHT + 1),
}


@pytest.mark.parametrize("kind", FILE_PROBLEMS)
def test_a_broken_image_file_is_found(kind, tmp_path):
    data = write(tmp_path, valid_content())
    FILE_PROBLEMS[kind](tmp_path / "images" / "b.png")
    assert list(check_files(valid_content(), data.images)) == [(kind, "b.png")]


def test_text_is_no_image(tmp_path):
    data = write(tmp_path, valid_content())
    (tmp_path / "images" / FILES[0]).write_text("<html>404: not found</html>")
    assert list(check_files(valid_content(), data.images)) == [("unreadable image", FILES[0])]


def test_every_kind_of_problem_is_tested():
    tested = {kind for kind, *_ in (*BROKEN, *BAD)} | set(FILE_PROBLEMS)
    assert tested == set(ISSUE_TYPES)
    assert {kind.severity for kind in ISSUE_TYPES.values()} == set(SEVERITIES)
