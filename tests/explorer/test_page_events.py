"""What the explorer's pages do when the user changes something, without a browser."""

import importlib.util
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from thin_models import make_explorer

from nl_detectron.explorer.models import Explorer
from nl_detectron.explorer.page import build_page
from nl_detectron.explorer.rendering import choose_first_point, picture_scale, render_point
from nl_detectron.modeling import find_blocks

pytestmark = pytest.mark.skipif(
    not importlib.util.find_spec("gradio"), reason="needs gradio: make explore"
)
GONE = "cannot be read as an image"


@pytest.fixture(scope="module")
def explorer():
    return make_explorer(count=2)


@pytest.fixture
def page(gr, explorer, file):
    return build_page(gr, explorer, [Path(file)])


def event(page, name):
    """The function of the page that is called so; of several columns the first one's."""
    return next(one.fn for one in page.fns.values() if one.name == name)


def by_id(changes) -> dict:
    """What an event changes, by the component's id."""
    return {getattr(part, "elem_id", None): value for part, value in changes.items()}


def chosen(explorer) -> list[str]:
    """What the map shows, and block and form of each model."""
    blocks = [next(iter(find_blocks(model.model))) for model in explorer.models]
    return ["weights", *(word for block in blocks for word in (block, "embedded_gaussian"))]


def is_skipped(gr, changes) -> bool:
    return all(change == gr.skip() for change in changes)


def test_before_an_image_is_shown_nothing_is_redrawn(gr, page, explorer):
    words = chosen(explorer)
    changed = by_id(event(page, "show_image")("", 0.5, 0, *words))
    assert changed == {"message": ""}
    maps = event(page, "redraw_maps")(None, 1, 2, *words)
    assert len(maps) == 6 and is_skipped(gr, maps)
    assert is_skipped(gr, event(page, "redraw_detections")(None, 0.5, 0))
    assert is_skipped(gr, event(page, "change_form")(None, 1, 2, *words[:3]))
    form, *maps = event(page, "change_block")(None, 1, 2, *words[:2])
    assert form.value == "embedded_gaussian" and is_skipped(gr, maps)


def test_an_image_is_shown_with_the_attention_of_both_models(page, explorer, file):
    words = chosen(explorer)
    changed = by_id(event(page, "show_image")(file, 0.5, 0, *words))
    records = explorer.get_records(file)
    at = choose_first_point(records[0])
    assert changed["message"] == "" and (changed["x"], changed["y"]) == at
    for number, record in enumerate(records):
        expected = render_point(record, *at, *words[:3])
        names = (f"heat{number}", f"arrows{number}", f"readout{number}")
        assert all(map(np.array_equal, (changed[name] for name in names), expected))


def test_a_click_and_a_typed_point_show_the_same(page, explorer, file):
    words = chosen(explorer)
    scale = picture_scale(explorer.get_records(file)[0])
    click = SimpleNamespace(index=(50 * scale, 20 * scale))
    x, y, *maps = event(page, "show_point")(click, file, *words)
    assert (x, y) == (50, 20)
    typed = event(page, "redraw_maps")(file, 50, 20, *words)
    assert len(typed) == 6 and all(map(np.array_equal, maps, typed))
    corner = event(page, "redraw_maps")(file, None, None, *words)
    assert np.array_equal(corner[0], event(page, "redraw_maps")(file, 0, 0, *words)[0])
    form, *of_block = event(page, "change_block")(file, 50, 20, *words[:2])
    assert form.value == words[2] and all(map(np.array_equal, of_block, typed[:3]))


def test_another_score_shows_other_detections(page, explorer, file):
    picture, words = event(page, "redraw_detections")(file, 0.0, 1)
    found = len(explorer.get_records(file)[1].instances)
    assert words.startswith(f"Detections with a score of 0 or more: {found} of {found}")
    assert picture.shape[1] == 800


def test_an_image_that_cannot_be_read_is_an_alert_and_changes_nothing_else(
    page, explorer, tmp_path
):
    (tmp_path / "broken.png").write_bytes(b"no image")
    changed = by_id(
        event(page, "show_image")(str(tmp_path / "broken.png"), 0.5, 0, *chosen(explorer))
    )
    assert changed.keys() == {"message", "upload"} and changed["upload"] is None
    assert 'role="alert"' in changed["message"] and GONE in changed["message"]


def test_a_click_into_an_image_that_is_gone_is_an_error_on_the_page(gr, page, explorer, file):
    words = chosen(explorer)
    event(page, "show_image")(file, 0.5, 0, *words)
    os.unlink(file)
    click = SimpleNamespace(index=(10, 10))
    event(page, "show_point")(click, file, *words)  # its record is still there
    explorer._records.clear()  # as after other images
    for call in (
        lambda: event(page, "show_point")(click, file, *words),
        lambda: event(page, "redraw_maps")(file, 1, 2, *words),
        lambda: event(page, "redraw_detections")(file, 0.5, 0),
        lambda: event(page, "change_form")(file, 1, 2, *words[:3]),
    ):
        with pytest.raises(gr.Error, match=GONE):
            call()


def test_images_of_one_name_are_listed_with_their_folders(gr, explorer, tmp_path):
    files = [tmp_path / name for name in ("a/one.png", "b/one.png", "two.png")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Image.new("RGB", (64, 64)).save(file)
    page = build_page(gr, explorer, files, files[2])
    parts = page.get_config_file()["components"]
    image = next(one["props"] for one in parts if one["props"].get("elem_id") == "image")
    assert [label for label, _ in image["choices"]] == [*map(str, files[:2]), "two.png"]
    assert image["value"] == str(files[2])
    titles = [str(one["props"].get("value")) for one in parts if one["type"] == "markdown"]
    assert sum("(compared)" in title for title in titles) == 1
    alone = build_page(gr, Explorer(explorer.models[:1]), [])
    parts = alone.get_config_file()["components"]
    image = next(one["props"] for one in parts if one["props"].get("elem_id") == "image")
    assert image.get("value") is None and not image["visible"]
