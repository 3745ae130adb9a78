"""What the explorer's page of a video model does when the user changes something."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("av", reason="needs PyAV: make setup-video")

from video_files import picture, write_video

from nl_detectron.explorer.models import load_explorer_model
from nl_detectron.explorer.video_page import build_video_page
from nl_detectron.explorer.videos import Strip, VideoExplorer, render_clip_point

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("gradio"), reason="needs gradio: make explore"
)
BLOCK = "backbone.res4.nonlocal0"
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.VIDEO.FRAMES", "4"),
    *("TEST.VIDEO.SHORT_SIDE", "48"),
]


@pytest.fixture(scope="module")
def explorer():
    return VideoExplorer(load_explorer_model("configs/Demo/relay_video_c2d_nl.yaml", THIN))


@pytest.fixture
def file(tmp_path):
    return str(write_video(tmp_path / "film.mp4", 20, draw=lambda n: picture(n, 96, 128)))


@pytest.fixture
def call(gr, explorer, file):
    """Calls a function of the page by its name; what it changes, by the component's id."""
    page = build_video_page(gr, explorer, [Path(file)])

    def of(name, *words):
        changes = next(one.fn for one in page.fns.values() if one.name == name)(*words)
        if isinstance(changes, dict):
            return {getattr(part, "elem_id", None): value for part, value in changes.items()}
        return changes

    return of


def same(found, expected) -> bool:
    """Whether pictures and words are equal."""
    return all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


def test_before_a_video_is_shown_nothing_changes(gr, call):
    assert call("show_video", "", BLOCK) == {"message": ""}
    assert call("show_around", None, 3, 0, 0, BLOCK) == {"message": ""}
    assert call("redraw", None, None, 3, 0, 0, BLOCK) == [gr.skip()] * 2


def test_a_video_is_shown_from_where_the_block_adds_the_most(call, explorer, file):
    changed = call("show_video", file, BLOCK)
    look = explorer.look(file)
    at = look[0].in_video(*look[1].most_changed(BLOCK))
    assert changed["message"] == "" and tuple(changed[k] for k in ("frame", "x", "y")) == at
    assert same((changed["picture"],), (Strip(look[0]).picture,))
    found = changed["arrows0"], changed["readout0"]
    assert same(found, render_clip_point(look, *at, BLOCK))


def test_the_clip_around_a_frame_is_shown(call, explorer, file):
    assert call("show_around", file, None, 1, 2, BLOCK) == {"message": ""}
    changed = call("show_around", file, 15, None, 60, BLOCK)
    assert [changed[name] for name in ("frame", "x", "y")] == [15, 0, 60]
    look = explorer.look(file, 15)
    assert look[0].numbers == (11, 13, 15, 17)
    found = changed["arrows0"], changed["readout0"]
    assert same(found, render_clip_point(look, 15, 0, 60, BLOCK))


def test_a_click_and_a_typed_point_show_the_same(call, explorer, file):
    clip, _ = look = explorer.look(file)
    strip = Strip(clip).picture
    click = SimpleNamespace(index=(strip.shape[1] * 5 // 8, strip.shape[0] // 2))
    frame, x, y, *found = call("show_point", click, file, None, BLOCK)
    assert frame == clip.numbers[2] and abs(y - 48) < 1
    assert same(found, call("redraw", file, None, frame, x, y, BLOCK))
    corner = call("redraw", file, None, None, None, None, BLOCK)
    assert same(corner, render_clip_point(look, 0, 0, 0, BLOCK))


def test_a_frame_that_is_not_there_is_an_alert_and_changes_nothing_else(call, file):
    changed = call("show_around", file, 99, 0, 0, BLOCK)
    assert changed.keys() == {"message", "upload"} and changed["upload"] is None
    assert "film.mp4: it has frames 0 to 19, not 99" in changed["message"]


def test_a_click_into_a_video_that_is_gone_is_an_error_on_the_page(gr, call, explorer, file):
    call("show_video", file, BLOCK)
    os.unlink(file)
    click = SimpleNamespace(index=(10, 10))
    call("show_point", click, file, None, BLOCK)  # its record is still there
    explorer._looks.clear()  # as after other clips
    for name, *words in (
        ("show_point", click, file, None, BLOCK),
        ("redraw", file, None, 3, 0, 0, BLOCK),
    ):
        with pytest.raises(gr.Error, match=r"film\.mp4: it cannot be opened"):
            call(name, *words)
