"""Truth beside predictions: a class has the same colour on both sides."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from media import CONFIGS
from PIL import Image

from nl_detectron.engine import load_config
from nl_detectron.modeling import build_model
from nl_detectron.prediction.comparison import draw_annotations, draw_detections, save_comparison
from nl_detectron.relay import Relay, register_split

CLASSES = Metadata(
    thing_classes=["red", "green", "blue"],
    thing_colors=[(255, 0, 0), (0, 255, 0), (0, 0, 255)],
)
GREY = np.full((96, 288, 3), 120, np.uint8)
BOX = 40, 20, 100, 80
POINTS = np.array([[50, 30, 2], [70, 50, 2], [90, 70, 2]], np.float32)


def annotate(kind, **parts):
    return {"bbox": list(BOX), "bbox_mode": BoxMode.XYXY_ABS, "category_id": kind, **parts}


def detect(*kinds, **parts):
    return Instances(
        GREY.shape[:2],
        pred_boxes=Boxes(torch.tensor([BOX] * len(kinds), dtype=torch.float).reshape(-1, 4)),
        pred_classes=torch.tensor(kinds, dtype=torch.long),
        scores=torch.full((len(kinds),), 0.9),
        **parts,
    )


def colour_at(picture, x, y):
    """RGB at a pixel of the image, which is drawn at twice its size."""
    return picture[2 * y, 2 * x].astype(int)


@pytest.mark.parametrize("kind", range(3))
def test_a_class_has_the_same_colour_on_both_sides(kind):
    mask = torch.zeros(1, *GREY.shape[:2], dtype=torch.bool)
    mask[:, 30:70, 50:90] = True
    polygon = [50, 30, 90, 30, 90, 70, 50, 70]
    truth = draw_annotations(GREY, [annotate(kind, segmentation=[polygon])], CLASSES)
    found = draw_detections(GREY, detect(kind, pred_masks=mask), CLASSES)
    for x, y in ((70, 50), (40, 50)):  # in the mask, on the box
        ours, theirs = colour_at(truth, x, y), colour_at(found, x, y)
        assert np.abs(ours - theirs).max() <= 2
        assert ours.argmax() == kind and ours.max() > 180
    assert np.array_equal(colour_at(truth, 200, 50), [120] * 3)


def test_keypoints_are_on_both_sides():
    truth = draw_annotations(GREY, [annotate(0, keypoints=POINTS.ravel().tolist())], CLASSES)
    found = draw_detections(GREY, detect(0, pred_keypoints=torch.tensor(POINTS[None])), CLASSES)
    for x, y, _ in POINTS:
        for picture in (truth, found):
            assert np.array_equal(colour_at(picture, int(x), int(y)), [255, 0, 0])


def test_an_image_without_objects_is_left_as_it_is():
    for picture in (draw_annotations(GREY, [], CLASSES), draw_detections(GREY, detect(), CLASSES)):
        assert picture.shape == (192, 576, 3) and (picture == 120).all()


@pytest.fixture
def tiny_cfg(tmp_path, monkeypatch, opts):
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path))
    name = "compared_val"
    register_split(name, Relay(height=64, width=128, signal=24, train=0, val=3), "val")
    words = [*opts("relay_mask_rcnn_nl"), "DATASETS.TEST", f"('{name}',)"]
    yield load_config(str(CONFIGS / "relay_mask_rcnn_nl.yaml"), words)
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


def test_a_row_for_each_image_is_saved(tiny_cfg, tmp_path):
    save_comparison(tiny_cfg, build_model(tiny_cfg), tmp_path / "found.png", count=2)
    picture = np.asarray(Image.open(tmp_path / "found.png").convert("RGB"))
    height, width = 64 + 4, 128 + 4  # with a white frame
    assert picture.shape == (2 * height, 2 * width, 3)
    for record, row in zip(DatasetCatalog.get("compared_val"), np.split(picture, 2), strict=False):
        x, y, w, h = record["annotations"][0]["bbox"]
        truth = row[int(y + h / 2) + 2, int(x + w / 2) + 2].astype(int)
        assert truth.argmax() == record["annotations"][0]["category_id"]
