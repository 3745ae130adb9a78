"""What a run is: the description that a YAML file and a LazyConfig are both turned into."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluator
from omegaconf import DictConfig
from torch import nn

Config = CfgNode | DictConfig


class Visualize(NamedTuple):
    """Pictures for TensorBoard: VISUALIZE of a YAML file, train.visualize of a LazyConfig."""

    period: int = 0  # iterations from one set of pictures to the next; 0: none
    images: int = 4  # how many: the first of the test set
    score: float = 0.5  # the least of a detection that is drawn


@dataclass(frozen=True)
class Run:
    """A training or an evaluation, as a config of either kind describes it.

    The functions build what their names say, with the errors of whatever the config names.
    ``check`` takes whether the run is a training. It raises UsageError for values that no run can
    have, and for data sets, registered by then, that do not fit the model.
    """

    cfg: Config
    keys: Mapping[str, str]  # what messages call some attributes: the config's own keys
    output_dir: str  # of all that the run leaves
    device: str  # of the model, such as "cuda" or "cpu"
    weights: str  # checkpoint to start from or to evaluate, or ""
    amp: bool  # train in mixed precision,
    amp_dtype: str  # with this dtype: a key of mixed_precision.DTYPES
    max_iter: int
    batch_size: int  # images in an iteration, over all processes
    eval_period: int  # iterations from one evaluation to the next; 0: at the end alone
    checkpoints: Mapping[str, Any]  # keyword arguments of Detectron2's PeriodicCheckpointer
    ddp: Mapping[str, Any]  # keyword arguments of DistributedDataParallel
    train_sets: tuple[str, ...]
    test_sets: tuple[str, ...]  # "" is one that a LazyConfig does not name
    resize: tuple[int, int]  # shorter side of a test image, 0 to keep it, and most of the longer
    num_classes: int | None  # of the detector, if the config says
    visualize: Visualize
    build_model: Callable[..., nn.Module]  # takes, optionally, a device in place of the config's
    build_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    build_lr_scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
    build_train_loader: Callable[[], Iterable]
    build_test_loader: Callable[[str], Iterable]  # takes one of test_sets
    build_evaluator: Callable[[str], DatasetEvaluator]  # takes one of test_sets
    best_metric: Callable[[], str]  # name of the metric that decides model_best.pth
    check: Callable[[bool], None]
    dump: Callable[[], str]  # the whole config as text
    log_period: int = 20  # iterations from one line of the log to the next
    reference_world_size: int = 0  # number of processes that the batch is for; 0: any
