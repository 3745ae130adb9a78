"""Truth beside predictions and attention: a class has the same colour on both sides."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, Metadata, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from media import CONFIGS
from PIL import Image

from nl_detectron.engine import load_config
from nl_detectron.modeling import build_model
from nl_detectron.prediction.comparison import (
    FRAME,
    HEADING,
    SCALE,
    draw_annotations,
    draw_detections,
    find_font,
    save_columns,
    save_comparison,
)
from nl_detectron.prediction.overview import choose_images, save_overview
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
    height, width = 64 * SCALE + 2 * FRAME, 128 * SCALE + 2 * FRAME
    assert picture.shape == (HEADING + 2 * height, 2 * width, 3)
    rows = np.split(picture[HEADING:], 2)
    for record, row in zip(DatasetCatalog.get("compared_val"), rows, strict=False):
        x, y, w, h = record["annotations"][0]["bbox"]
        truth = row[int(SCALE * (y + h / 2)) + FRAME, int(SCALE * (x + w / 2)) + FRAME].astype(int)
        assert truth.argmax() == record["annotations"][0]["category_id"]


def test_a_heading_stands_above_the_middle_of_each_column(tmp_path):
    cells = [np.full((20, width, 3), 90, np.uint8) for width in (200, 200)]
    save_columns(("truth", "predicted"), [cells], tmp_path / "a.png")
    picture = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert picture.shape == (HEADING + 20 + 2 * FRAME, 2 * (200 + 2 * FRAME))
    for column in np.split(picture[:HEADING], 2, axis=1):
        dark = np.flatnonzero((column < 128).any(axis=0))
        assert 40 < np.ptp(dark) < 200
        assert (dark[0] + dark[-1]) / 2 == pytest.approx(column.shape[1] / 2, abs=3)


@pytest.mark.parametrize("width", [300, 80, 40])
def test_a_heading_is_as_large_as_its_column_allows(width):
    font = find_font("predicted", width)
    assert font.getlength("predicted") <= width
    assert font.size == find_font("", width).size or font.getlength("predicted") > 0.8 * width


def test_each_class_has_its_first_image_and_then_come_the_others():
    def record(number, *classes):
        return {"number": number, "annotations": [{"category_id": kind} for kind in classes]}

    records = [record(0), record(1, 2), record(2, 2), record(3, 0), record(4, 1, 0), record(5, 0)]
    chosen = [one["number"] for one in choose_images(records, 3)]
    assert chosen == [3, 4, 1]  # by class
    assert [one["number"] for one in choose_images(records[:4], 3)] == [3, 1, 2]
    assert choose_images([record(0)]) == []


@pytest.mark.slow
def test_an_overview_has_truth_predictions_and_attention(tiny_cfg, tmp_path, opts):
    assert save_overview(tiny_cfg, build_model(tiny_cfg), tmp_path / "all.png")
    picture = np.asarray(Image.open(tmp_path / "all.png").convert("RGB"))
    height, width = 64 * SCALE + 2 * FRAME, 128 * SCALE + 2 * FRAME
    assert picture.shape == (HEADING + 3 * height, 3 * width, 3)
    assert all(column.std() > 20 for column in np.split(picture, 3, axis=1))
    words = [*opts("relay_mask_rcnn"), "DATASETS.TEST", "('compared_val',)"]
    twin = load_config(str(CONFIGS / "relay_mask_rcnn.yaml"), words)
    assert not save_overview(twin, build_model(twin), tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()
