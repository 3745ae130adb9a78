"""Models that cannot take a batch, or find something else than instances."""

from types import SimpleNamespace

import pytest
import torch
from detectron2.config import get_cfg
from media import make_pixels
from torch import nn

from nl_detectron import add_nonlocal_config
from nl_detectron.errors import UsageError
from nl_detectron.prediction.inputs import Frame, SkipReporter, Source
from nl_detectron.prediction.predictor import record_batches


class Model(nn.Module):
    """Returns what it was given, or raises it."""

    def __init__(self, result):
        super().__init__()
        self.result, self.backbone = result, SimpleNamespace(size_divisibility=1)

    def forward(self, batch):
        if isinstance(self.result, Exception):
            raise self.result
        return [self.result for _ in batch]


def record(model: nn.Module, count: int = 2) -> list:
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.INPUT.MIN_SIZE_TEST = 64
    frames = [Frame(Source(f"{n}.png"), None, make_pixels(seed=n)) for n in range(count)]
    return list(record_batches(model, cfg, [frames], SkipReporter(print)))


def test_a_batch_that_does_not_fit_into_memory_is_reported():
    full = torch.cuda.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(UsageError, match=r"^2 image\(s\) at once .* smaller --batch-size or INPUT"):
        record(Model(full))


def test_a_model_without_instances_is_reported():
    with pytest.raises(UsageError, match=r"finds instances, got one of \['sem_seg'\]: give the"):
        record(Model({"sem_seg": torch.zeros(2, 64, 96)}))


def test_images_that_a_model_cannot_take_are_tried_one_by_one(capsys):
    assert record(Model(RuntimeError("too\nsmall")), 2) == []
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"skipped {n}.png: the model cannot take 96 x 64 pixels: too small" for n in range(2)
    ]
