"""The relay data set: what an object is, is told only at the other end of the image.

A grey object lies on grey noise at one end of a long image; a coloured signal patch lies in the
opposite corner. Its colour is the object's class (or, in the keypoint variant, which end is the
object's head), and nothing else tells it. A detector must carry information across the image.
Variants have the signal nearer, on the object itself, or several objects each with its own.

Units: pixels; x to the right, y down.
"""

import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from iopath.common.file_io import file_lock
from PIL import Image

from .scenes import (
    CLEAR,
    COLOURS,
    KEYPOINTS,
    MARGIN,
    MOST_PAIRS,
    NEAR,
    draw_long,
    draw_one,
    draw_pairs,
)

SPLITS = ("train", "val")
SOURCES = ("relay.py", "scenes.py", "drawing.py")
PLACES = ("far", "any", "beside", "end")


@dataclass(frozen=True)
class Relay:
    """Settings of one relay data set; equal settings give equal files.

    Args:
        keypoints: one class, and the signal tells the head's end, in place of three classes.
        height, width: of an image.
        signal: side of the signal patch.
        place: where the signal lies: "far", in the opposite corner; "any", at any distance along
            the image; "beside", next to the object; or, with keypoints, "end": painted on one end
            of an object nearly as long as the image, to tell which of two points at its other end
            is the head.
        beside: share of training images whose signal lies beside the object instead, where a
            detector without a non-local block can use it. Validation images all follow ``place``.
        stout: objects are 0.6 to 0.8 times as wide as long, rather than 0.3 to 0.45 times.
        pairs: objects in an image, at most four, each with a signal of its own that shares its
            texture; no two of an image have the same. It takes the texture to know which colour is
            meant.
        train, val: numbers of images.
        seed: of everything.
    """

    keypoints: bool = False
    height: int = 96
    width: int = 288
    signal: int = 32
    place: str = "far"
    beside: float = 0.0
    stout: bool = False
    pairs: int = 1
    train: int = 2000
    val: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        if self.height < 32 or self.signal < 1 or self.signal > self.height - MARGIN:
            raise ValueError(
                "expected a height of 32 or more, and a signal of 1 to the height less "
                f"{MARGIN}; got height={self.height}, signal={self.signal}"
            )
        if self.place not in PLACES or (self.place == "end" and not self.keypoints):
            raise ValueError(
                f"place: expected one of {PLACES}, the last with keypoints=True, got "
                f"{self.place!r} with keypoints={self.keypoints}"
            )
        if self.place == "end" and self.signal > 0.4 * self.height:
            raise ValueError(
                f"expected a signal of at most {int(0.4 * self.height)}, to be painted on the "
                f"object, got {self.signal}"
            )
        if not 0 <= self.beside <= 1 or (self.beside and self.place == "end"):
            raise ValueError(
                'beside: expected a share from 0 to 1, and 0 with place="end", got '
                f"{self.beside} with place={self.place!r}"
            )
        self._check_pairs()
        clear = NEAR if self.beside else {"any": CLEAR, "beside": NEAR}.get(self.place, MARGIN)
        least = self.height + self.signal + clear
        if self.width < least:
            raise ValueError(
                f"expected a width of {least} or more, so that the signal stays clear of the "
                f"object, got {self.width}"
            )

    def _check_pairs(self) -> None:
        if self.pairs not in range(1, MOST_PAIRS + 1):
            raise ValueError(f"expected 1 to {MOST_PAIRS} pairs, got {self.pairs}")
        if self.pairs == 1:
            return
        if self.keypoints or self.place != "far" or self.beside:
            raise ValueError(
                'several pairs go with place="far" and without keypoints or a share "beside"'
            )
        cell = self.height // 2
        if cell < 32 or cell < self.signal + MARGIN:
            raise ValueError(
                f"several pairs: expected a height of 64 or more, and a signal of at most "
                f"{max(cell, 32) - MARGIN}; got height={self.height}, signal={self.signal}"
            )
        if self.width < 2 * self.height:
            raise ValueError(
                f"several pairs: expected a width of {2 * self.height} or more, as signals and "
                f"objects take a square each, got {self.width}"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        return ("thing",) if self.keypoints else tuple(COLOURS)

    def folder(self) -> Path:
        """Where the files are cached: below NL_DETECTRON_CACHE, by default ~/.cache."""
        root = os.environ.get("NL_DETECTRON_CACHE") or Path.home() / ".cache" / "nl_detectron"
        # another generator writes another folder
        source = b"".join(Path(__file__).with_name(f).read_bytes() for f in SOURCES)
        key = sha256(source + json.dumps(asdict(self)).encode()).hexdigest()[:12]
        return Path(root).expanduser() / f"relay-{key}"

    def write(self, folder: Path | None = None) -> Path:
        """Write the PNGs and COCO-format JSON unless they stand already; returns the folder.

        One process writes, others that want the same folder wait for it.
        """
        folder = folder or self.folder()
        if not folder.exists():
            with file_lock(str(folder)):
                self._write_unless_there(folder)
        return folder

    def _write_unless_there(self, folder: Path) -> None:
        if folder.exists():
            return
        # Written aside and renamed, so that a folder that exists is always whole.
        aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".relay-"))
        aside.chmod(0o755)  # a cache may be shared
        try:
            for split in SPLITS:
                self._write_split(aside, split)
            aside.rename(folder)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _write_split(self, folder: Path, split: str) -> None:
        (folder / split).mkdir()
        images, annotations = [], []
        for number in range(getattr(self, split)):
            pixels, drawn = self.draw(split, number)
            name = f"{number:05d}.png"
            Image.fromarray(pixels).save(folder / split / name)
            shape = {"height": self.height, "width": self.width}
            images.append({"id": number + 1, "file_name": name, **shape})
            for annotation in drawn:
                more = {"id": len(annotations) + 1, "image_id": number + 1}
                annotations.append({**more, **annotation})
        categories = [
            {"id": i, "name": name, "keypoints": KEYPOINTS, "skeleton": [[1, 2], [2, 3]]}
            for i, name in enumerate(self.classes, 1)
        ]
        content = {"images": images, "annotations": annotations, "categories": categories}
        (folder / f"{split}.json").write_text(json.dumps(content))

    def draw(self, split: str, number: int) -> tuple[np.ndarray, list[dict]]:
        """One image: RGB uint8 (height, width, 3), and its annotations in COCO's format.

        Each also has ``signal``, its patch's box (x, y, width, height), and ``distance``, pixels
        along x between the centres of object and signal, where the signal may lie at any.
        """
        rng = np.random.default_rng([self.seed, SPLITS.index(split), number])
        relay = self
        if split == "train" and self.beside and rng.random() < self.beside:
            relay = replace(self, place="beside", beside=0.0)
        scene = draw_pairs if self.pairs > 1 else draw_long if self.place == "end" else draw_one
        image, annotations = scene(relay, rng)
        return image.clip(0, 255).astype(np.uint8), annotations


# A large signal, which lies beside the object in half of the training images, so that blocks begin
# to learn sooner and from more seeds. In validation images it is in the opposite corner alone.
DEMO = Relay(signal=64, beside=0.5, stout=True)
RELAY_DATASETS = {"relay": DEMO, "relay_keypoints": replace(DEMO, keypoints=True)}


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
