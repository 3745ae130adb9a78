"""Images and videos of noise, and what the demo leaves of them."""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

CONFIGS = Path(__file__).parents[2] / "configs/Demo"
THIN = [
    *("MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.DETECTIONS_PER_IMAGE", "4"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
]
SURE = "0.6"  # what some of the random model's detections have


def make_pixels(height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save_image(path: Path, *args, **keys) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(make_pixels(*args, **keys)).save(path)
    return path


def save_video(path: Path, frames: int = 5, height: int = 64, width: int = 96) -> Path:
    code = cv2.VideoWriter_fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, 12, (width, height))
    for seed in range(frames):
        writer.write(make_pixels(height, width, seed))
    writer.release()
    return path


def read_video(path: Path) -> np.ndarray:
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return np.stack(found)


def list_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_blank(path: Path) -> bool:
    image = np.asarray(Image.open(path).convert("RGB"))
    return image.std() < 5 or min(image.shape[:2]) < 100
