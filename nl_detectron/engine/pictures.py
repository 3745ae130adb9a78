"""Pictures for TensorBoard during training: a model's detections, and its blocks' attention."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import HookBase
from detectron2.structures import BoxMode, Instances
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..data.images import read_image
from ..errors import UsageError
from .run import Run

SHORTEST = 320  # pixels of a picture's shorter side: in a smaller one, labels hide the objects


@dataclass(frozen=True)
class Sample:
    """An image, and the point whose attention is drawn if nothing is detected.

    Attributes:
        image: RGB uint8 (H,W,3).
        place: name of the point, for the title.
        point: x and y in pixels.
    """

    image: np.ndarray
    place: str
    point: tuple[float, float]


class Pictures(HookBase):
    """Puts pictures ``predictions/0``, ``attention/0`` and so on into the event storage.

    It does so every VISUALIZE.PERIOD iterations (train.visualize.period of a LazyConfig) and at the
    end, in the main process only. It must come before the writer; the storage keeps pictures and
    their iteration until the writer takes them. Training steps are the same as without this hook.

    Raises:
        UsageError: as in :func:`check_pictures`; or an image cannot be read, or the model has more
            classes than the data set.
    """

    def __init__(self, run: Run):
        check_pictures(run)
        self.run, name = run, run.test_sets[0]
        self.samples = [_make_sample(r) for r in DatasetCatalog.get(name)[: run.visualize.images]]
        self.metadata = MetadataCatalog.get(name)  # loading a COCO file above has set its classes
        names, classes = self.metadata.get("thing_classes"), run.num_classes
        if names and classes and len(names) < classes:
            raise UsageError(
                f"NUM_CLASSES is {classes}, but {name!r} has {len(names)} "
                "class(es), so detections could not be named; give the number that it has"
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
                np.random.seed(number)  # the Visualizer picks random colours
                for kind, picture in self.draw(model, sample).items():
                    picture = np.ascontiguousarray(picture.transpose(2, 0, 1))
                    self.trainer.storage.put_image(f"{kind}/{number}", picture)

    def draw(self, model: nn.Module, sample: Sample) -> dict[str, np.ndarray]:
        """Draw ``predictions``, and ``attention`` if a block covers the point, as RGB uint8
        (H,W,3). A block in a head covers only detections."""
        # These import Matplotlib, which takes time and is needed for pictures only.
        from ..attention import record_attention
        from ..attention.draw import as_image, panel

        [record] = record_attention(model, [sample.image], self.run.resize)
        detections = _filter_by_score(record.instances, self.run.visualize.score)
        pictures = {"predictions": self._draw_predictions(sample.image, detections)}
        place, (x, y) = _choose_point(sample, detections)
        attentions = filter(None, (record.attention(x, y, block) for block in record.blocks))
        if rows := [{attention.block: attention} for attention in attentions]:
            titles = [f"from {place}"] * len(rows)
            pictures["attention"] = as_image(panel(rows, [record] * len(rows), titles))
        return pictures

    def _draw_predictions(self, image: np.ndarray, detections: Instances) -> np.ndarray:
        from detectron2.utils.visualizer import ColorMode

        from ..visualizer import Visualizer

        scale = max(1.0, SHORTEST / min(image.shape[:2]))
        drawn = Visualizer(image, self.metadata, scale, ColorMode.SEGMENTATION)
        return drawn.draw_instance_predictions(detections).get_image()


def check_pictures(run: Run) -> None:
    """Raises UsageError if pictures are asked for, but there is no test set to draw."""
    period, key = run.visualize.period, run.keys["visualize_period"]
    if period and not any(run.test_sets):
        raise UsageError(
            f"{key} is {period}, but {run.keys['test_sets']} is empty: name a registered data set "
            f"whose images are to be drawn, or set {key} to 0"
        )


@contextmanager
def _preserve_training_mode(model: nn.Module) -> Iterator[None]:
    """Restore the training mode of every module and all random states on leaving."""
    modes = [(module, module.training) for module in model.modules()]
    states = random.getstate(), np.random.get_state()
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            yield
    finally:
        for module, training in modes:  # train() would also change modules that are kept in eval
            module.training = training
        random.setstate(states[0])
        np.random.set_state(states[1])


def _make_sample(record: dict) -> Sample:
    """Read the image of one of Detectron2's dataset dicts."""
    try:
        image = read_image(record["file_name"], "RGB")
    except Exception as error:  # each format of images raises its own
        raise UsageError(
            f"pictures of validation images: the image {record['file_name']} cannot be read "
            f"({error}); replace it, or draw no pictures"
        ) from error
    height, width = image.shape[:2]
    if not record.get("annotations"):
        return Sample(image, "the image's centre", (width / 2, height / 2))
    first = record["annotations"][0]
    box = BoxMode.convert(list(first["bbox"]), first["bbox_mode"], BoxMode.XYXY_ABS)
    x0, y0, x1, y1 = map(float, box)
    x, y = np.clip([(x0 + x1) / 2, (y0 + y1) / 2], 0, [width, height])
    return Sample(image, "the first annotation's box", (float(x), float(y)))


def _filter_by_score(detections: Instances, score: float) -> Instances:
    return detections[detections.scores >= score] if detections.has("scores") else detections


def _choose_point(sample: Sample, detections: Instances) -> tuple[str, tuple[float, float]]:
    """Name and x, y of the detection with the highest score; without any, of the sample's point."""
    if not detections.has("scores") or not len(detections):
        return sample.place, sample.point
    x, y = detections.pred_boxes.get_centers()[detections.scores.argmax()].tolist()
    return "the detection with the highest score", (x, y)
