"""The demo's panels of attention, from a point or from what was found."""

import pytest
from media import is_blank, list_names, save_image, save_video

from nl_detectron.prediction.drawing import PredictionDrawer


@pytest.mark.slow
def test_attention_from_a_point_and_from_what_is_found(run, tmp_path):
    path = save_image(tmp_path / "image.png")
    run("--input", path, "--attention", "30.5,20", output="point")
    assert list_names(tmp_path / "point") == [
        "detections.jsonl",
        "image.attention1.png",
        "image.png",
    ]
    run("--input", path, "--attention", "30.5,20", "--scores", output="scores")
    panels = [tmp_path / folder / "image.attention1.png" for folder in ("point", "scores")]
    assert len({panel.read_bytes() for panel in panels}) == 2
    _, [line] = run("--input", path, "--attention", "auto", output="auto")
    panels = [f"image.attention{n}.png" for n in (1, 2, 3)][: len(line["detections"])]
    assert list_names(tmp_path / "auto") == ["detections.jsonl", *panels, "image.png"]
    assert len(panels) > 1
    for panel in [
        tmp_path / "point/image.attention1.png",
        *(tmp_path / "auto" / p for p in panels),
    ]:
        assert not is_blank(panel)


@pytest.mark.slow
def test_a_point_outside_an_image_is_reported_and_its_detections_drawn(run, tmp_path, capsys):
    paths = [save_image(tmp_path / "image.png"), save_video(tmp_path / "film.mp4")]
    code, lines = run("--input", *paths, "--attention", "200,20")
    assert code == 1
    assert [line["output"] for line in lines] == ["image.png", *["film.mp4"] * 5]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert len(warnings) == 2  # not one for each frame
    for path, line in zip(paths, warnings, strict=True):
        assert f"{path}: the point x 200, y 20 lies outside its 96 x 64 pixels" in line


def test_a_model_without_blocks_shows_detections_alone(run, tmp_path, capsys):
    path = save_image(tmp_path / "image.png")
    code, [line] = run("--input", path, "--attention", "auto", model="relay_mask_rcnn")
    assert code == 0 and line["detections"]
    assert list_names(tmp_path / "out") == ["detections.jsonl", "image.png"]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1 and "no non-local blocks" in warnings[0]


@pytest.mark.slow
def test_the_attention_of_a_very_high_image_is_drawn_and_its_batch_too(run, tmp_path):
    paths = [save_image(tmp_path / "high.png", 6000, 4), save_image(tmp_path / "image.png")]
    code, lines = run("--input", *paths, "--attention", "2,40", "--batch-size", 2)
    assert code == 0
    assert [line["output"] for line in lines] == ["high.png", "image.png"]
    names = list_names(tmp_path / "out")
    assert {"high.attention1.png", "image.attention1.png"} <= set(names)


@pytest.mark.slow
def test_an_image_that_cannot_be_drawn_is_skipped_alone(run, tmp_path, capsys, monkeypatch):
    draw = PredictionDrawer.draw

    def fail_on_b(self, frame, record):
        if frame.source.path.endswith("b.png"):
            raise ValueError("Image size of 20x70000\npixels is too large")
        return draw(self, frame, record)

    monkeypatch.setattr(PredictionDrawer, "draw", fail_on_b)
    paths = [save_image(tmp_path / name) for name in ("a.png", "b.png", "c.png")]
    code, lines = run("--input", *paths, "--batch-size", 3)
    assert code == 1
    assert [line["output"] for line in lines] == ["a.png", "c.png"]
    assert "b.png: Matplotlib cannot draw 96 x 64 pixels: Image size" in capsys.readouterr().err
