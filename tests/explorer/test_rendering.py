"""Pictures and words of the explorer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from thin_models import CONFIG, IN_HEAD, KEYPOINTS, THIN, make_explorer, thin_model

from nl_detectron.attention import forms_of, record_attention
from nl_detectron.explorer.models import load_explorer_model
from nl_detectron.explorer.rendering import (
    NO_ROI,
    choose_first_point,
    picture_scale,
    render_detections,
    render_point,
)
from nl_detectron.modeling import find_blocks


@pytest.mark.slow
def test_a_point_is_reported_in_pictures_and_words(file):
    [record] = make_explorer().get_records(file)
    [block] = record.blocks
    for form in forms_of(find_blocks(make_explorer().models[0].model)[block]):
        of_weights, arrows, words = render_point(record, 30, 30, "weights", block, form)
        of_scores, *_ = render_point(record, 30, 30, "scores", block, form)
        assert of_weights.std() > 10 and arrows.std() > 10
        assert np.array_equal(of_weights, of_scores) == (form == "dot_product")
        assert f"**{form}**" in words and "mean distance" in words
    outside = render_point(record, 1e4, -5, "weights", block, form)
    corner = render_point(record, record.image.shape[1], 0, "weights", block, form)
    assert np.array_equal(outside[0], corner[0])


def test_a_head_that_did_not_look_says_so(image):
    [record] = record_attention(
        thin_model("gaussian", KEYPOINTS, IN_HEAD), [image], (64, 999), image_format="RGB"
    )
    record._seen = {block: [] for block in record.blocks}
    result = render_point(record, 5, 5, "weights", record.blocks[0], "gaussian")
    assert result == (None, None, NO_ROI)


@pytest.mark.slow
def test_detections_are_those_above_the_slider_on_a_picture_large_enough_to_click(image):
    words = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    [record] = record_attention(
        thin_model("gaussian", words=words), [image], (64, 999), image_format="RGB"
    )
    assert len(record.instances) > 1
    scores = sorted(record.instances.scores.tolist())
    classes = load_explorer_model(CONFIG, THIN).classes
    picture, text = render_detections(record, classes, scores[-1])
    number, label = text.split(" (")
    assert number.endswith(f": 1 of {len(scores)}")
    assert label.split()[0] in classes.thing_classes and label.endswith("%).")
    assert picture.shape == (400, 800, 3) and picture_scale(record) == 800 / 128
    everything, _ = render_detections(record, classes, 0)
    assert not np.array_equal(picture, everything)
    x0, y0, x1, y1 = record.instances.pred_boxes.tensor[0].tolist()
    assert choose_first_point(record) == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.1)


def test_a_class_has_its_own_colour(image):
    record = SimpleNamespace(image=np.full_like(image, 120), instances=None)
    classes = load_explorer_model(CONFIG, THIN).classes
    mask = torch.zeros(1, *image.shape[:2], dtype=torch.bool)
    mask[:, 10:50, 20:90] = True
    for kind in range(3):
        record.instances = Instances(
            image.shape[:2],
            pred_boxes=Boxes(torch.tensor([[20.0, 10, 90, 50]])),
            scores=torch.tensor([0.9]),
            pred_classes=torch.tensor([kind]),
            pred_masks=mask,
        )
        picture, _ = render_detections(record, classes, 0.5)
        scale = picture_scale(record)
        inside = picture[int(30 * scale), int(60 * scale)].astype(int)
        assert inside.argmax() == kind and inside.max() > 180


@pytest.mark.slow
@pytest.mark.parametrize("size", [(288, 96), (600, 60), (100, 300)])
def test_most_of_a_picture_is_the_image(size, tmp_path):
    noise = np.random.default_rng(0).integers(0, 200, (*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "image.png")
    [record] = make_explorer().get_records(str(tmp_path / "image.png"))
    heat, arrows, _ = render_point(record, 20, 20, "weights", record.blocks[0], "embedded_gaussian")
    blank = [(picture > 250).all(axis=2).mean() for picture in (heat, arrows)]
    assert blank[0] < (0.6 if size == (600, 60) else 0.3) and blank[1] < 0.1


@pytest.mark.slow
def test_words_tell_what_is_nearly_even_and_untrained(file):
    [record] = make_explorer().get_records(file)
    [block] = record.blocks
    *_, words = render_point(record, 30, 30, "weights", block, "embedded_gaussian")
    assert words.startswith("**Untrained block, nearly even: at most 1.")
    assert "no arrows" in words


@pytest.mark.slow
@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1)])
def test_an_image_of_any_shape_is_drawn(size, tmp_path):
    Image.new("RGB", size).save(tmp_path / "line.png")
    [record] = make_explorer().get_records(str(tmp_path / "line.png"))
    heat, arrows, _ = render_point(record, 0, 0, "weights", record.blocks[0], "embedded_gaussian")
    assert all(min(p.shape[:2]) >= 10 and max(p.shape[:2]) < 1000 for p in (heat, arrows))
