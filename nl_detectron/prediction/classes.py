"""Classes of videos with their scores: in words, for JSON, and as lines below a frame."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image, ImageDraw, ImageFont

from ..errors import UsageError

TOP = 5  # classes that are shown
LINE, TEXT = 26, 16  # height of a line and of its letters, in pixels
BAR = 0.3  # of the width: what a score of 1 takes
COLOUR = (0, 114, 178)  # Okabe and Ito's blue


class ScoredClass(NamedTuple):
    """A class with its score, and its name where that is known; :attr:`label` has both."""

    class_id: int
    class_name: str | None
    score: float

    @property
    def name(self) -> str:
        return f"class {self.class_id}" if self.class_name is None else self.class_name

    @property
    def label(self) -> str:
        return f"{self.name} {self.score:.0%}"


def find_class_names(cfg: CfgNode, say: Callable[[str], None]) -> list[str] | None:
    """Names of a video model's classes, as its data set has them; None where the data set is not
    here, or has another number of classes.

    Args:
        say: takes a warning that classes have no names.
    """
    name = next(iter((*cfg.DATASETS.TEST, *cfg.DATASETS.TRAIN)), "")
    known, count = _list_classes(name), cfg.MODEL.VIDEO.NUM_CLASSES
    if len(known) == count:
        return known
    say(
        f"warning: classes are shown by number, because the model has {count} and the data set "
        f"{name!r} names {len(known)} here; --dataset gives the names of your own data"
    )
    return None


def _list_classes(name: str) -> list[str]:
    """The classes of a data set of videos; none where it is not here."""
    if name not in DatasetCatalog.list():
        return []
    if not MetadataCatalog.get(name).get("classes"):
        with suppress(OSError, ValueError):
            DatasetCatalog.get(name)  # which sets them
    return list(MetadataCatalog.get(name).get("classes") or [])


def top_classes(
    scores: np.ndarray, names: Sequence[str] | None, threshold: float = 0.0, count: int = TOP
) -> list[ScoredClass]:
    """The classes with the highest scores (K,), in descending order, and of at least a score."""
    order: list[int] = np.argsort(-scores, kind="stable")[:count].tolist()
    known = dict(enumerate(names or ()))
    found = [ScoredClass(i, known.get(i), float(scores[i])) for i in order]
    return [one for one in found if one.score >= threshold]


def combine_views(scores: np.ndarray, ensemble: str, file: str) -> np.ndarray:
    """Scores (K,) of the views (V,K) of a video together, as in an evaluation.

    Args:
        ensemble: TEST.VIDEO.ENSEMBLE, "average" or "max".

    Raises:
        UsageError: a score is NaN or infinite.
    """
    if not np.isfinite(scores).all():
        raise UsageError(
            f"video {file}: the model's scores are NaN or infinite; its weights are of no use"
        )
    return scores.max(axis=0) if ensemble == "max" else scores.mean(axis=0)


def draw_classes(classes: Sequence[ScoredClass], width: int) -> np.ndarray:
    """A line for each class, with a bar as long as its score, RGB uint8 (H,width,3)."""
    picture = Image.new("RGB", (width, max(len(classes), 1) * LINE + 4), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.truetype(str(_font_file()), TEXT)
    full = int(BAR * width)
    for number, one in enumerate(classes):
        y = number * LINE + 4
        draw.rectangle((6, y, 6 + full, y + LINE - 8), fill=(230, 230, 230))
        draw.rectangle((6, y, 6 + max(int(full * one.score), 1), y + LINE - 8), fill=COLOUR)
        label, room = f"{one.score:.0%} {one.name}", width - full - 20
        if font.getlength(label) > room:
            while label and font.getlength(label + "…") > room:
                label = label[:-1]
            label += "…"
        draw.text((full + 14, y + LINE // 2 - 4), label, fill="black", font=font, anchor="lm")
    if not classes:
        draw.text((6, LINE // 2), "no class has such a score", "black", font, anchor="lm")
    return np.asarray(picture)


def _font_file() -> Path:
    """DejaVu Sans, which Matplotlib brings: it has Latin, Greek and Cyrillic letters."""
    return Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
