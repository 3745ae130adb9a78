"""Frames of videos with their class and the predicted one."""

from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image
from torch import nn

from ..data.video.mapper import make_mapper

SIDE = 96  # height of a frame in pixels
TEXT = 22  # height of the line of text above the frames
RIGHT, WRONG = (0, 110, 0), (190, 0, 0)  # RGB


@torch.no_grad()
def save_video_comparison(cfg: CfgNode, model: nn.Module, path: Path, count: int = 6) -> None:
    """Save the frames of a clip of each of the first videos of the first test set, below their
    class and the predicted one with its score.

    Args:
        path: of the PNG.
    """
    name = cfg.DATASETS.TEST[0]
    classes, mapper = MetadataCatalog.get(name).classes, make_mapper(cfg, False)
    model.eval()
    rows = []
    for record in DatasetCatalog.get(name)[:count]:
        sample = mapper(record)
        scores = model([sample])[0]["scores"].mean(dim=0)
        found = int(scores.argmax())
        truth = [record["label"]] if "label" in record else record["labels"]
        names = ", ".join(classes[label] for label in truth) or "none"
        text = f"true: {names}, predicted: {classes[found]} ({float(scores[found]):.2f})"
        frames = sample["clips"][0].permute(1, 2, 3, 0).numpy()
        rows.append(_draw_row(frames, text, RIGHT if found in truth else WRONG))
    Image.fromarray(np.vstack(rows)).save(path, optimize=True)


def _draw_row(frames: np.ndarray, text: str, colour: tuple[int, int, int]) -> np.ndarray:
    """Frames (T,H,W,3) side by side, below a line of text."""
    width = frames.shape[2] * SIDE // frames.shape[1]
    large = [cv2.resize(frame, (width, SIDE)) for frame in frames]
    strip = np.hstack([np.pad(f, ((0, 4), (0, 4), (0, 0)), constant_values=255) for f in large])
    head = np.full((TEXT, strip.shape[1], 3), 255, dtype=np.uint8)
    cv2.putText(head, text, (2, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, colour, 1, cv2.LINE_AA)
    return np.vstack([head, strip])
