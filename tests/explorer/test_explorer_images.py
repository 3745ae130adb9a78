"""Images for the explorer: files, folders, data sets."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from nl_detectron.errors import UsageError
from nl_detectron.explorer.images import find_images, list_dataset_images, read_small_image
from nl_detectron.relay import Relay, register_split


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "RGB"])
def test_images_become_rgb_of_no_more_pixels_than_a_model_sees(mode, tmp_path):
    Image.new(mode, (300, 100)).save(tmp_path / "image.png")
    assert read_small_image(tmp_path / "image.png", 300).shape == (100, 300, 3)
    smaller = read_small_image(tmp_path / "image.png", 150)
    assert smaller.shape == (50, 150, 3) and smaller.dtype == np.uint8


@pytest.mark.parametrize("kept", [0, 1, 30, 200])
def test_a_broken_image_is_refused(kept, file, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(file).read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"^broken\.png cannot be read as an image.* try a JPEG"):
        read_small_image(broken, 999)


def test_images_are_files_and_those_in_folders(file, tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "A.JPG").touch()
    found = find_images([str(tmp_path), file, str(tmp_path / "notes.txt")])
    assert [p.name for p in found] == ["A.JPG", "relay.png", "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no image in it"):
        find_images([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="nothing: expected a file or a folder, there is none"):
        find_images(["nothing"])


def test_a_data_sets_images_are_listed_if_it_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path))
    register_split("explored_val", Relay(height=64, width=128, signal=24, train=0, val=3), "val")
    try:
        names = [p.name for p in list_dataset_images("explored_val")]
        assert names == [f"0000{n}.png" for n in range(3)]
    finally:
        DatasetCatalog.remove("explored_val")
        MetadataCatalog.remove("explored_val")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name in ("coco_2017_val_100", "nothing_of_this_name", ""):
        assert list_dataset_images(name) == []
