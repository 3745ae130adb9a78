"""The relay data set: what an object is, is told only at the other end of the image.

A grey object lies on grey noise at one end of a long image; a coloured signal patch lies in the
opposite corner. Its colour is the object's class (or, in the keypoint variant, which end is the
object's head), and nothing else tells it. A detector must carry information across the image.

Units: pixels; x to the right, y down; angles in radians from the vertical.
"""

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from PIL import Image

SHAPES = ("bar", "diamond", "ellipse")
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}  # RGB
KEYPOINTS = ("head", "centre", "tail")
HEAD_UP, HEAD_DOWN = "red", "blue"  # in the keypoint variant
SPLITS = ("train", "val")
MARGIN = 5  # how far the signal may lie from the corner


@dataclass(frozen=True)
class Relay:
    """Settings of one relay data set; equal settings give equal files.

    Args:
        keypoints: one class, and the signal tells the head's end, in place of three classes.
        height, width: of an image.
        signal: side of the signal patch.
        train, val: numbers of images.
        seed: of everything.
    """

    keypoints: bool = False
    height: int = 96
    width: int = 288
    signal: int = 32
    train: int = 2000
    val: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if self.height < 32 or self.signal < 1 or self.signal > self.height - MARGIN:
            raise ValueError(
                "expected a height of 32 or more, and a signal of 1 to the height less "
                f"{MARGIN}; got height={self.height}, signal={self.signal}"
            )
        least = self.height + self.signal + MARGIN
        if self.width < least:
            raise ValueError(
                f"expected a width of {least} or more, so that the signal stays clear of the "
                f"object, got {self.width}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return ("thing",) if self.keypoints else tuple(COLOURS)

    def folder(self) -> Path:
        """Where the files are cached: below NL_DETECTRON_CACHE, by default ~/.cache."""
        root = os.environ.get("NL_DETECTRON_CACHE") or Path.home() / ".cache" / "nl_detectron"
        source = Path(__file__).read_bytes()  # another generator writes another folder
        key = sha256(source + json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return Path(root).expanduser() / f"relay-{key}"

    def write(self, folder: Path | None = None) -> Path:
        """Write the PNGs and COCO-format JSON unless they stand already; returns the folder."""
        folder = folder or self.folder()
        if folder.exists():
            return folder
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Written aside and renamed, so that a folder that exists is always whole.
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".relay-"))
        aside.chmod(0o755)  # a cache may be shared
        try:
            for split in SPLITS:
                self._write_split(aside, split)
            aside.rename(folder)
        except OSError:
            if not folder.exists():  # no other process was first
                raise
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        return folder

    def _write_split(self, folder: Path, split: str) -> None:
        (folder / split).mkdir()
        images, annotations = [], []
        for number in range(getattr(self, split)):
            pixels, annotation = self.draw(split, number)
            name = f"{number:05d}.png"
            Image.fromarray(pixels).save(folder / split / name)
            shape = {"height": self.height, "width": self.width}
            images.append({"id": number + 1, "file_name": name, **shape})
            annotations.append({"id": number + 1, "image_id": number + 1, **annotation})
        categories = [
            {"id": i, "name": name, "keypoints": KEYPOINTS, "skeleton": [[1, 2], [2, 3]]}
            for i, name in enumerate(self.classes, 1)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))

    def draw(self, split: str, number: int) -> tuple[np.ndarray, dict]:
        """One image: RGB uint8 (height, width, 3), and its annotation in COCO's format.

        The annotation also has ``signal``, the patch's box (x, y, width, height).
        """
        rng = np.random.default_rng([self.seed, SPLITS.index(split), number])
        colour = rng.choice([HEAD_UP, HEAD_DOWN] if self.keypoints else list(COLOURS))
        corner = rng.integers(0, 2, size=2)  # of the object: 0 left or top, 1 right or bottom

        size = np.array([self.width, self.height])
        image = _noise(rng, self.height, self.width)
        outline, angle, length = _outline(rng, self.height)
        reach = np.abs(outline).max(axis=0) + 2
        room = np.array([self.height, self.height / 2])  # a square at one end, and its upper half
        centre = rng.uniform(reach, np.maximum(room - reach * [1, 0], reach))
        centre = np.where(corner == 1, size - centre, centre)
        outline = outline + centre
        mask = _fill(outline, self.height, self.width)
        grey = rng.choice([rng.uniform(40, 70), rng.uniform(170, 200)])
        image += mask[..., None] * (grey - image) * 0.9  # some of the noise shows through

        x, y = np.where(corner == 1, 0, size - self.signal)
        jitter = rng.integers(0, MARGIN, size=2) * np.where(corner == 1, 1, -1)
        x, y = int(x + jitter[0]), int(y + jitter[1])
        image[y : y + self.signal, x : x + self.signal] = COLOURS[colour]
        image += rng.normal(0, 6, size=(self.height, self.width, 1))

        up = np.array([np.sin(angle), -np.cos(angle)]) * length / 2
        head_up = not self.keypoints or colour == HEAD_UP
        ends = (centre + up, centre, centre - up) if head_up else (centre - up, centre, centre + up)
        low, high = outline.min(axis=0), outline.max(axis=0)
        annotation = {
            "category_id": 1 if self.keypoints else list(COLOURS).index(colour) + 1,
            "bbox": [*low.tolist(), *(high - low).tolist()],
            "area": float(cv2.contourArea(outline.astype(np.float32))),
            "segmentation": [outline.round(2).ravel().tolist()],
            "iscrowd": 0,
            "keypoints": [round(float(v), 2) for end in ends for v in (*(end - 0.5), 2)],
            "num_keypoints": len(KEYPOINTS),
            "signal": [x, y, self.signal, self.signal],
        }
        return image.clip(0, 255).astype(np.uint8), annotation


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Grey noise, coarse and fine, (height, width, 1) repeated to three equal channels."""
    coarse = cv2.resize(rng.normal(0, 18, size=(height // 16, width // 16)), (width, height))
    return np.repeat((120 + coarse + rng.normal(0, 10, size=(height, width)))[..., None], 3, axis=2)


def _outline(rng: np.random.Generator, height: int) -> tuple[np.ndarray, float, float]:
    """A shape around (0, 0): its outline (P, 2), angle and length."""
    shape = rng.choice(SHAPES)
    length = height * rng.uniform(0.53, 0.7)
    width = length * rng.uniform(0.3, 0.45)
    angle = rng.uniform(-np.pi / 3, np.pi / 3)
    across, along = {
        "bar": ([-1, 1, 1, -1], [-1, -1, 1, 1]),
        "diamond": ([0, 1, 0, -1], [-1, 0, 1, 0]),
        "ellipse": (
            np.cos(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
            np.sin(np.linspace(0, 2 * np.pi, 24, endpoint=False)),
        ),
    }[shape]
    local = np.stack([np.multiply(across, width / 2), np.multiply(along, length / 2)], axis=1)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return local @ turn, angle, length


def _fill(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """The outline's cover of each pixel, 0 to 1, (height, width)."""
    shift = 4  # fractional bits of cv2's coordinates; its pixel centres are whole numbers
    mask = np.zeros((height, width), dtype=np.uint8)
    points = np.round((outline - 0.5) * 2**shift).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=shift)
    return mask / 255.0


RELAY_DATASETS = {"relay": Relay(), "relay_keypoints": Relay(keypoints=True)}


def register_relay() -> None:
    """Register ``relay_train``, ``relay_val``, ``relay_keypoints_train`` and ``…_val``.

    Files are written when a data set is first loaded.
    """
    for name, relay in RELAY_DATASETS.items():
        for split in SPLITS:
            register_split(f"{name}_{split}", relay, split)


def register_split(name: str, relay: Relay, split: str) -> None:
    """Register one split of a relay data set with Detectron2 under ``name``."""
    if name in DatasetCatalog.list():
        return
    folder = relay.folder()
    json_file, image_root = str(folder / f"{split}.json"), str(folder / split)

    def load() -> list[dict]:
        relay.write(folder)  # the one registered, wherever the cache is by now
        return load_coco_json(json_file, image_root, name)

    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(
        json_file=json_file,
        image_root=image_root,
        evaluator_type="coco",
        made_on_demand=True,
        thing_classes=list(relay.classes),
        thing_colors=[COLOURS.get(name, (255, 160, 0)) for name in relay.classes],
        keypoint_names=list(KEYPOINTS),
        keypoint_flip_map=[],
        keypoint_connection_rules=[
            ("head", "centre", (255, 0, 0)),
            ("centre", "tail", (0, 0, 255)),
        ],
    )
