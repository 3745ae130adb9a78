"""A model sees an image as its config has it: the size, and RGB or BGR."""

import numpy as np
import pytest
import torch
from colour_model import ColourModel
from detectron2.engine import DefaultPredictor
from detectron2.modeling import SemanticSegmentor
from helpers import tiny_cfg, with_blocks
from omegaconf import OmegaConf

from nl_detectron.attention import capture_attention, record_attention
from nl_detectron.modeling import find_blocks

IMAGE = np.random.default_rng(0).integers(0, 255, (60, 90, 3), dtype=np.uint8)  # RGB


def seen_by(model, **words):
    """The tensor that a model gets for the image."""
    given = []
    handle = model.register_forward_pre_hook(lambda _, args: given.append(args[0][0]["image"]))
    try:
        [record] = record_attention(model, [IMAGE], **{"image_format": "RGB", **words})
    finally:
        handle.remove()
    assert record.image is IMAGE
    return given[0]


@pytest.mark.parametrize("model_format", ["RGB", "BGR"])
def test_what_is_found_is_what_detectron2s_predictor_finds(model_format):
    cfg = with_blocks(tiny_cfg())
    cfg.INPUT.FORMAT, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = model_format, 96, 200
    predictor = DefaultPredictor(cfg)
    bgr = np.ascontiguousarray(IMAGE[:, :, ::-1])
    expected = predictor(bgr)["instances"]
    assert len(expected)
    for image, image_format in ((IMAGE, "RGB"), (bgr, "BGR")):
        [record] = record_attention(predictor.model, [image], cfg=cfg, image_format=image_format)
        assert torch.equal(record.instances.scores, expected.scores)
        assert torch.equal(record.instances.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert np.array_equal(record.image, IMAGE)
    [name] = find_blocks(predictor.model)
    [one] = capture_attention(predictor.model, bgr, [(45, 30)], cfg=cfg, image_format="BGR")[name]
    assert np.array_equal(one.weights, record.attention(45, 30, name).weights)


def test_a_given_size_comes_before_the_configs():
    cfg, model = tiny_cfg(), ColourModel([[]])
    cfg.INPUT.MIN_SIZE_TEST = 120
    assert seen_by(model, cfg=cfg).shape == (3, 120, 180)
    assert seen_by(model, cfg=cfg, resize=(90, 999)).shape == (3, 90, 135)
    assert seen_by(model, cfg=cfg, resize=(0, 0)).shape == (3, 60, 90)


def test_without_a_size_or_a_format_there_is_no_guess():
    model = ColourModel([[]])
    with pytest.raises(ValueError, match=r"cfg=, the model's YAML config, or resize=.*\(800, 1333"):
        seen_by(model)
    with pytest.raises(TypeError, match="image_format"):
        record_attention(model, [IMAGE], (0, 0))
    with pytest.raises(ValueError, match=r'expected "RGB" \(Pillow\) or "BGR".*, got \'rgb\''):
        seen_by(model, resize=(0, 0), image_format="rgb")


@pytest.mark.parametrize("kind", ["yaml", "lazy"])
def test_a_model_that_does_not_tell_its_format_needs_its_config(kind):
    model = ColourModel([[]])
    model.input_format = None
    with pytest.raises(ValueError, match="ColourModel does not say whether it takes RGB or BGR"):
        seen_by(model, resize=(0, 0))
    assert not hasattr(SemanticSegmentor, "input_format")  # such a model of Detectron2
    for model_format, order in (("RGB", 1), ("BGR", -1)):
        if kind == "yaml":
            cfg = tiny_cfg()
            cfg.INPUT.FORMAT = model_format
        else:
            test = {"mapper": {"image_format": model_format}}
            cfg = OmegaConf.create({"dataloader": {"test": test}})
        expected = torch.as_tensor(IMAGE[:, :, ::order].copy()).permute(2, 0, 1)
        assert torch.equal(seen_by(model, resize=(0, 0), cfg=cfg), expected)
