"""Images of more than 8 bits keep their range, and all others are read as by Detectron2."""

import logging

import numpy as np
import pytest
from detectron2.data import DatasetMapper as Detectron2Mapper
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image as read_by_detectron2
from PIL import Image

from nl_detectron.data import images
from nl_detectron.data.images import read_image, read_size
from nl_detectron.data.mapper import DatasetMapper

RAMP = np.arange(0, 65536, 256, dtype=np.uint16).reshape(16, 16)
DEEP = [
    ("16 bits", ".png", RAMP, RAMP / 257),
    ("16 bits", ".tif", RAMP, RAMP / 257),
    ("int32 of 16 bits", ".tif", RAMP.astype(np.int32), RAMP / 257),
    ("int32 of 8 bits", ".tif", (RAMP // 256).astype(np.int32), RAMP // 256),
    ("int32", ".tif", RAMP.astype(np.int32) * 9 - 99, RAMP / 256),
    ("float of 0 to 1", ".tif", (RAMP / 65280).astype(np.float32), RAMP / 256),
    ("float of 0 to 255", ".tif", (RAMP / 256).astype(np.float32), RAMP / 256),
    ("float", ".tif", (RAMP * 9.5 - 1e5).astype(np.float32), RAMP / 256),
    ("constant", ".tif", np.full((4, 4), -7, np.int32), np.zeros((4, 4))),
]


@pytest.mark.parametrize(("name", "suffix", "pixels", "expected"), DEEP)
def test_a_deep_image_is_scaled_and_the_log_says_how(
    name, suffix, pixels, expected, tmp_path, caplog, monkeypatch
):
    monkeypatch.setattr(images, "_reported", set())
    file = tmp_path / f"deep{suffix}"
    Image.fromarray(pixels).save(file)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            read = read_image(str(file), "BGR")
    assert read.shape == (*pixels.shape, 3) and read.dtype == np.uint8
    assert np.abs(read - expected[..., None]).max() <= 0.5
    [record] = caplog.records
    assert "more than 8 bits" in record.message and str(file) in record.message
    assert read_size(str(file)) == (pixels.shape, True)


def test_pixels_that_are_not_finite_are_refused(tmp_path):
    pixels = np.zeros((4, 4), np.float32)
    pixels[1, 2] = np.nan
    Image.fromarray(pixels).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match="NaN or infinite"):
        read_image(str(tmp_path / "nan.tif"), "RGB")


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA", "CMYK"])
@pytest.mark.parametrize("format", ["RGB", "BGR", "L", "YUV-BT.601", None])
def test_other_images_are_read_as_by_detectron2(mode, format, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    file = str(tmp_path / "a.tif")
    Image.fromarray(pixels).convert(mode if mode != "LA" else "L").convert(mode).save(file)
    found, expected = read_image(file, format), read_by_detectron2(file, format)
    assert found.dtype != np.float64  # which no model takes
    assert np.array_equal(found, expected.astype(found.dtype))


@pytest.mark.parametrize("is_train", [True, False])
def test_samples_are_those_of_detectron2(is_train, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12), dtype=np.uint8)
    for name in ("a.png", "labels.png"):
        Image.fromarray(pixels).save(tmp_path / name)
    polygon = {"bbox": [1, 1, 4, 4], "bbox_mode": 1, "category_id": 0, "iscrowd": 0}
    record = {
        **{"file_name": str(tmp_path / "a.png"), "height": 8, "width": 12, "image_id": 1},
        "annotations": [{**polygon, "segmentation": [[1, 1, 5, 1, 5, 5.0]]}],
        "sem_seg_file_name": str(tmp_path / "labels.png"),
    }
    options = {"image_format": "RGB", "use_instance_mask": True, "is_train": is_train}
    augmentations = [T.ResizeShortestEdge((16, 20), sample_style="choice"), T.RandomFlip()]
    samples = []
    for mapper in (Detectron2Mapper, DatasetMapper):
        np.random.seed(3)
        samples.append(mapper(augmentations=augmentations, **options)(record))
    theirs, ours = samples
    assert theirs.keys() - {"sem_seg_file_name"} == ours.keys()
    assert (theirs["image"] == ours["image"]).all()
    assert (theirs["sem_seg"] == ours["sem_seg"]).all()
    if is_train:
        assert (theirs["instances"].gt_boxes.tensor == ours["instances"].gt_boxes.tensor).all()
