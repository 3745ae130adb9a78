"""Each kind of problem of a list of videos is found where it is, and nowhere else."""

import json

import pytest

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from PIL import Image
from video_files import write_sound, write_video

from nl_detectron.data.validation.issues import VIDEO_ISSUE_TYPES
from tools.check_dataset import main

KINETICS = "label,youtube_id,time_start,time_end,split\n"
CHARADES = "id,actions\n"
SOUND = "a.mp4 run\nb.mp4 jump\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos a and b of 20 frames, c of 5, v of a variable rate, and files that are no video."""
    folder = tmp_path_factory.mktemp("videos")
    write_video(folder / "a.mp4", 20)
    (folder / "b.mp4").write_bytes((folder / "a.mp4").read_bytes())
    write_video(folder / "c.mp4", 5)
    write_video(folder / "v.mp4", 20, times=lambda n: 3600 * n + 100 * n * n)
    write_sound(folder / "s.mp4")
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "empty.mp4").touch()
    return folder


@pytest.fixture
def check(folder, tmp_path):
    """Runs the tool on a list; returns its exit code and the report."""

    def run(text, *words, name="list.txt", classes=None):
        (tmp_path / name).write_text(text)
        if classes:
            (tmp_path / "classes.txt").write_text(classes)
        report = tmp_path / "report.json"
        options = ["--span", "16", "--json", str(report), *map(str, words)]
        code = main([str(tmp_path / name), str(folder), *options])
        return code, json.loads(report.read_text())

    return run


def test_a_sound_list_has_a_line_of_what_it_is_and_exit_code_0(check, capsys):
    code, report = check(SOUND)
    assert code == 0 and report["problems"] == [] and report["classes"] == ["jump", "run"]
    output = capsys.readouterr().out
    assert "2 video(s), 2 class(es), path label" in output
    assert output.endswith("Nothing is wrong.\n")


BROKEN = {
    "malformed line": (SOUND + "alone\n", "line 3: expected a path and a label, got 'alone'"),
    "nothing listed": ("", "the whole file"),
    "unknown class": (SOUND + "v.mp4 swim\n", "line 3: swim"),
    "video with two labels": (SOUND + "a.mp4 jump\n", "line 3: a.mp4"),
    "missing video": (SOUND + "gone.mp4 run\n", "gone.mp4"),
    "unreadable video": (SOUND + "s.mp4 run\n", "s.mp4: it has no video stream (only audio)"),
    "video outside its folder": (SOUND + "../x.mp4 run\n", "line 3: ../x.mp4"),
    "video not found": (KINETICS + "run,x,1,2,train\njump,y,1,2,train\n", "x_000001_000002"),
    "video shorter than a clip": (SOUND + "c.mp4 run\n", "c.mp4: 5 frames"),
    "video listed twice": (SOUND + "a.mp4 run\n", "line 3: a.mp4"),
    "class without videos": ("a.mp4 run\n", "class 'jump'"),
    "video without classes": (CHARADES + "a,c000 0 1\nb,c001 0 1\nv,\n", "line 4: v"),
    "variable frame rate": (SOUND + "v.mp4 run\n", "v.mp4"),
}
FOLLOWS = {
    "video outside its folder": {"missing video"},
    "nothing listed": {"class without videos"},
}
FOLLOWS["video without classes"] = {"variable frame rate"}
FOLLOWS["unknown class"] = {"variable frame rate"}


def test_every_type_of_issue_has_a_case():
    assert BROKEN.keys() == VIDEO_ISSUE_TYPES.keys()


@pytest.mark.parametrize("kind", BROKEN)
def test_a_problem_is_named_with_its_place(check, kind):
    text, place = BROKEN[kind]
    name = "list.csv" if text.startswith((KINETICS, CHARADES)) else "list.txt"
    code, report = check(text, name=name, classes="jump\nrun\n")
    found = {problem["problem"]: problem["first"] for problem in report["problems"]}
    assert found.keys() - FOLLOWS.get(kind, set()) == {kind}
    assert found[kind][0] == place
    severities = ["info", "warning", "error"]
    assert code == max(severities.index(p["severity"]) for p in report["problems"])


def test_empty_and_broken_files_are_unreadable(check):
    code, report = check(SOUND + "broken.mp4 run\nempty.mp4 run\n")
    [problem] = report["problems"]
    assert code == 2 and problem["count"] == 2 and "cannot be opened" in problem["first"][0]


def test_a_number_too_large_for_a_class_ends_the_check(folder, tmp_path, capsys):
    (tmp_path / "list.txt").write_text("a.mp4 1700000000\n")
    assert main([str(tmp_path / "list.txt"), str(folder)]) == 2
    assert capsys.readouterr().err.endswith("or numbers from 0 to 99999\n")


def test_paths_outside_are_errors_unless_allowed(check, folder):
    text = f"{SOUND}../{folder.name}/a.mp4 run\n"
    assert check(text)[0] == 2
    assert check(text, "--allow-outside")[0] == 0


def test_a_sheet_shows_frames_of_each_class(check, tmp_path, capsys):
    check(SOUND + "broken.mp4 run\n", "--sheet", tmp_path / "sheet.png")
    assert "Some of it drawn" in capsys.readouterr().out
    width, height = Image.open(tmp_path / "sheet.png").size
    assert width > 2 * 4 * 120 and 100 < height < 300
    check("broken.mp4 run\n", "--sheet", tmp_path / "none.png")
    assert "No --sheet: no video can be read" in capsys.readouterr().out
    assert not (tmp_path / "none.png").exists()
