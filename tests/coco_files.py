"""A small valid data set in COCO's format, which tests can change."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from nl_detectron.data import CocoDataset

ROOT = Path(__file__).parents[1]
MASK = ROOT / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml"
KEYPOINT = ROOT / "configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml"
BOX = ROOT / "configs/COCO-Detection/faster_rcnn_R_50_FPN_nl_1x.yaml"
RETINANET = ROOT / "configs/COCO-Detection/retinanet_R_50_FPN_nl_1x.yaml"
LAZY = str(ROOT / "configs/Demo/relay_mask_rcnn.py")
DEMO = ROOT / "configs/Demo/relay_keypoint_rcnn.yaml"
PLAIN = ("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "")
WIDTH, HEIGHT = 96, 64
KEYPOINTS = ["beak", "left_wing", "right_wing"]
FILES = ("a.png", "b.png")


def valid_content() -> dict:
    """Two images, two classes with ids in no order and with gaps, boxes, masks and keypoints."""
    names = {"keypoints": list(KEYPOINTS), "skeleton": [[1, 2], [1, 3]]}
    size = {"height": HEIGHT, "width": WIDTH}
    crowd = {"counts": [0, 10, HEIGHT * WIDTH - 10], "size": [HEIGHT, WIDTH]}
    return {
        "images": [{"id": i, "file_name": name, **size} for i, name in enumerate(FILES, 5)],
        "categories": [{"id": 20, "name": "owl", **names}, {"id": 3, "name": "jay", **names}],
        "annotations": [
            _annotation(1, 5, 20, [10, 10, 40, 30]),
            _annotation(2, 5, 3, [50, 20, 30, 40]),
            _annotation(4, 6, 3, [0, 0, WIDTH, HEIGHT]),
            {
                **_annotation(9, 6, 20, [0, 0, 1, 10]),
                "iscrowd": 1,
                "segmentation": crowd,
                "keypoints": [0] * 9,
                "num_keypoints": 0,
            },
        ],
    }


def _annotation(number: int, image: int, category: int, box: list[int]) -> dict:
    x, y, w, h = box
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "area": w * h,
        "iscrowd": 0,
        "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        "keypoints": [x + 1, y + 1, 2, x + w - 1, y + 1, 1, x + 1, y + h - 1, 2],
        "num_keypoints": 3,
    }


def write(folder: Path, content: dict, name: str = "birds_train") -> CocoDataset:
    """Write the file ``{name}.json`` and images of noise into a folder."""
    file, images = folder / f"{name}.json", folder / "images"
    file.write_text(json.dumps(content))
    images.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for image in FILES:
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / image)
    return CocoDataset(name, str(file), str(images))


def dataset_argument(data: CocoDataset) -> str:
    """The value of ``--dataset`` for a data set."""
    return f"{data.name}={data.annotations}:{data.images}"


@contextmanager
def restore_catalogues() -> Iterator[None]:
    """Unregister on leaving what was registered inside."""
    before = set(DatasetCatalog.list())
    try:
        yield
    finally:
        for name in set(DatasetCatalog.list()) - before:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


def without_masks(content: dict) -> None:
    for annotation in content["annotations"]:
        del annotation["segmentation"]


def without_keypoints(content: dict) -> None:
    for entry in content["annotations"] + content["categories"]:
        for key in ("keypoints", "num_keypoints", "skeleton"):
            entry.pop(key, None)


def named(*names):
    def change(content: dict) -> None:
        for category in content["categories"]:
            category.update(keypoints=list(names), skeleton=[])

    return change
