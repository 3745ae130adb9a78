"""The tool that checks a data set: its report, its exit code and its contact sheet."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from coco_files import FILES, valid_content, write
from PIL import Image

from nl_detectron.data.coco import read_coco
from nl_detectron.data.validation.contact_sheet import HEIGHT, MOST, WIDTH, contact_sheet
from tools.check_dataset import main

# pycocotools' own, of numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
ROOT = Path(__file__).parents[1]


@pytest.fixture
def check(tmp_path):
    """Runs the tool on a content; returns its exit code."""

    def run(content, *words) -> int:
        data = write(tmp_path, content)
        return main([data.annotations, data.images, *map(str, words)])

    return run


def test_sound_data_has_a_line_of_what_it_is_and_exit_code_0(check, capsys):
    assert check(valid_content()) == 0
    output = capsys.readouterr().out
    assert "2 image(s), 4 annotation(s), 2 class(es), masks, 3 keypoint(s)" in output
    assert output.endswith("Nothing is wrong.\n")


def test_warnings_and_errors_are_reported_and_decide_the_exit_code(check, tmp_path, capsys):
    content = valid_content()
    content["annotations"][0]["bbox"] = [90, 10, 40, 30]
    assert check(content) == 1
    assert "box outside its image" in capsys.readouterr().out
    content["images"].append({"id": 8, "file_name": "gone.png", "height": 3, "width": 3})
    assert check(content, "--json", tmp_path / "report.json") == 2
    rows = [line for line in capsys.readouterr().out.splitlines() if "image" in line]
    assert [row.split()[0] for row in rows[1:]] == ["error", "warning", "info"]
    assert "missing image" in rows[1] and rows[1].endswith("gone.png")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["worst"] == "error"
    assert report["classes"] == ["jay", "owl"]
    assert [p["problem"] for p in report["problems"]] == [
        *("missing image", "box outside its image", "image without annotations")
    ]
    assert report["problems"][0]["first"] == ["gone.png"] and report["problems"][0]["count"] == 1


def test_names_outside_the_folder_are_errors_unless_allowed(check, capsys):
    content = valid_content()
    content["images"][0]["file_name"] = "../images/a.png"
    assert check(content) == 2
    assert "image outside its folder" in capsys.readouterr().out
    assert check(content, "--allow-outside") == 0


def test_what_is_not_there_is_reported_before_any_work(check, tmp_path, capsys):
    file = tmp_path / "birds_train.json"
    for words in (
        [file, tmp_path / "nowhere"],
        [file, tmp_path, "--sheet", tmp_path / "sheet.txt"],
        [file, tmp_path, "--json", tmp_path / "nowhere" / "report.json"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, words)))
        assert stop.value.code == 2
        assert str(words[-1]) in capsys.readouterr().err


def test_a_file_of_another_format_is_one_line_and_exit_code_2(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.json").write_text("[]")
    tool = str(ROOT / "tools/check_dataset.py")
    monkeypatch.setattr(sys, "argv", [tool, str(tmp_path / "a.json"), str(tmp_path)])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(tool, run_name="__main__")
    output = capsys.readouterr().err
    assert stop.value.code == 2
    assert output.startswith("check_dataset.py: error: annotations ") and output.count("\n") == 1


def test_a_sheet_is_drawn_of_what_is_sound(check, tmp_path):
    content = valid_content()
    content["annotations"][0]["segmentation"] = [1, 2]
    content["annotations"][1].update(bbox=[0, 0])
    content["annotations"][2].update(keypoints=[1, 1, 2])
    assert check(content, "--sheet", tmp_path / "sheet.png") == 2
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width >= 2 * WIDTH and height >= HEIGHT


def test_a_sheet_shows_rare_classes_first(tmp_path):
    content = valid_content()
    plain = content["annotations"][1]
    for number in range(20):
        name = f"c{number:02}.png"
        content["images"].append({"id": 50 + number, "file_name": name, "height": 64, "width": 96})
        content["annotations"].append({**plain, "id": 50 + number, "image_id": 50 + number})
    content["categories"].append({"id": 99, "name": "ibis"})
    content["annotations"].append(
        {"id": 99, "image_id": 69, "category_id": 99, "bbox": [1, 1, 9, 9], "iscrowd": 0}
    )
    data = write(tmp_path, content)
    for number in range(20):
        (tmp_path / "images" / f"c{number:02}.png").symlink_to(tmp_path / "images" / FILES[0])
    titles = [cell.get_title() for cell in contact_sheet(content, data.images).axes]
    assert len(titles) == MOST
    assert titles[:3] == ["a.png", "c19.png", "b.png"]


def test_a_sheet_of_nothing_that_can_be_read_is_reported(tmp_path, check, capsys):
    data = write(tmp_path, valid_content())
    for name in FILES:
        (tmp_path / "images" / name).write_text("")
    with pytest.raises(ValueError, match="no annotated image can be read"):
        contact_sheet(read_coco(data.annotations), data.images)
