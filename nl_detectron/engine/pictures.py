"""Pictures for TensorBoard while a model trains: what it finds, and where its blocks look."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine import HookBase
from detectron2.structures import BoxMode, Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import UsageError
from .run import Run

SHORTEST = 320  # pixels of a picture's shorter side: on a smaller one labels hide what they name


@dataclass(frozen=True)
class Sample:
    """An image, and where to look from in it when nothing is found."""

    image: np.ndarray
    place: str
    point: tuple[float, float]


class Pictures(HookBase):
    """Puts ``predictions/0``, ``attention/0`` and so on every VISUALIZE.PERIOD (of a LazyConfig
    train.visualize.period) iterations and at the end; in the main process, before the writer.

    The storage keeps pictures with their iteration until the writer takes them, whatever the two
    periods are. Training takes the very steps that it would take without.

    Raises:
        UsageError: of :func:`check_pictures`, an image that cannot be read, or more classes than
            the data set has.
    """

    def __init__(self, run: Run):
        check_pictures(run)
        self.run, name = run, run.test_sets[0]
        self.samples = [_sample(r) for r in DatasetCatalog.get(name)[: run.visualize.images]]
        self.metadata = MetadataCatalog.get(name)  # a COCO file's classes are known by now
        names, classes = self.metadata.get("thing_classes"), run.num_classes
        if names and classes and len(names) < classes:
            raise UsageError(
                f"NUM_CLASSES is {classes}, but {name!r} has {len(names)} "
                "class(es), so what is found could not be named; give the number that it has"
            )

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self.run.visualize.period == 0 or done == self.trainer.max_iter:
            self.put()

    def put(self) -> None:
        model = cast(Any, self.trainer).model  # HookBase declares a TrainerBase
        if isinstance(model, DistributedDataParallel):
            model = model.module  # the other processes take no part
        with _preserve_training_mode(model):
            for number, sample in enumerate(self.samples):
                np.random.seed(number)  # the Visualizer draws colours by lot: the same every time
                for kind, picture in self.draw(model, sample).items():
                    picture = np.ascontiguousarray(picture.transpose(2, 0, 1))
                    self.trainer.storage.put_image(f"{kind}/{number}", picture)

    def draw(self, model: nn.Module, sample: Sample) -> dict[str, np.ndarray]:
        """RGB uint8 (H,W,3) of ``predictions``, and of ``attention`` where blocks see the place:
        one in a head sees what was found alone."""
        # Matplotlib comes with these: only who wants pictures waits for it
        from ..attention import record_attention
        from ..attention.draw import as_image, panel

        [record] = record_attention(model, [sample.image], self.run.resize)
        found = _filter_by_score(record.instances, self.run.visualize.score)
        pictures = {"predictions": self._predictions(sample.image, found)}
        place, (x, y) = _place(sample, found)
        seen = filter(None, (record.attention(x, y, block) for block in record.blocks))
        if rows := [{attention.block: attention} for attention in seen]:
            titles = [f"from {place}"] * len(rows)
            pictures["attention"] = as_image(panel(rows, [record] * len(rows), titles))
        return pictures

    def _predictions(self, image: np.ndarray, found: Instances) -> np.ndarray:
        from detectron2.utils.visualizer import ColorMode

        from ..visualizer import Visualizer

        scale = max(1.0, SHORTEST / min(image.shape[:2]))
        drawn = Visualizer(image, self.metadata, scale, ColorMode.SEGMENTATION)
        return drawn.draw_instance_predictions(found).get_image()


def check_pictures(run: Run) -> None:
    """Raises UsageError for pictures that could not be drawn."""
    number, images, score = run.visualize
    period_key, images_key, score_key = (
        run.keys[f"visualize_{field}"] for field in run.visualize._fields
    )
    if number < 0 or images < 1 or not 0 <= score <= 1:
        raise UsageError(
            f"expected a {period_key} of 0 (no pictures) or more, {images_key} of 1 or more and a "
            f"{score_key} of 0 to 1, got {number}, {images} and {score}"
        )
    if number and not any(run.test_sets):
        raise UsageError(
            f"{period_key} is {number}, but {run.keys['test_sets']} is empty: name a registered "
            f"data set whose images are to be drawn, or set {period_key} to 0"
        )


@contextmanager
def _preserve_training_mode(model: nn.Module) -> Iterator[None]:
    """Afterwards the modes of all modules, and all random numbers to come, are as before."""
    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), np.random.get_state()
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in modes:  # train(True) would set those that the user keeps in eval
            module.training = training
        random.setstate(states[0])
        np.random.set_state(states[1])


def _sample(record: dict) -> Sample:
    """Of Detectron2's dict of an image."""
    try:
        image = read_image(record["file_name"], "RGB")
    except OSError as error:
        raise UsageError(
            f"pictures of validation images: the image {record['file_name']} cannot be read "
            f"({error}); fetch it, or draw no pictures"
        ) from error
    height, width = image.shape[:2]
    if not record.get("annotations"):
        return Sample(image, "the image's centre", (width / 2, height / 2))
    first = record["annotations"][0]
    box = BoxMode.convert(list(first["bbox"]), first["bbox_mode"], BoxMode.XYXY_ABS)
    x0, y0, x1, y1 = map(float, box)
    x, y = np.clip([(x0 + x1) / 2, (y0 + y1) / 2], 0, [width, height])
    return Sample(image, "the first annotation's box", (float(x), float(y)))


def _filter_by_score(found: Instances, score: float) -> Instances:
    return found[found.scores >= score] if found.has("scores") else found


def _place(sample: Sample, found: Instances) -> tuple[str, tuple[float, float]]:
    """The centre of the surest detection, else the sample's own point, and its name."""
    if not found.has("scores") or not len(found):
        return sample.place, sample.point
    x, y = found.pred_boxes.get_centers()[found.scores.argmax()].tolist()
    return "the surest detection", (x, y)
