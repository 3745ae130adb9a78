"""The description of a run, which is the same for a YAML file and a LazyConfig."""

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

    period: int = 0  # iterations between pictures; 0: no pictures
    images: int = 4  # number of images, the first of the test set
    score: float = 0.5  # lowest score of a detection that is drawn


@dataclass(frozen=True)
class Run:
    """A training or an evaluation, as a YAML file or a LazyConfig describes it.

    The functions whose names start with ``build`` raise the errors of the classes that the config
    names. ``check`` takes whether the run is a training. It raises UsageError for values that no
    run can have, and for data sets that do not fit the model; these must be registered before.
    """

    cfg: Config
    keys: Mapping[str, str]  # the config's keys of some attributes, for messages
    output_dir: str  # folder of everything that the run writes
    device: str  # the model's device, such as "cuda" or "cpu"
    weights: str  # checkpoint to start from or to evaluate, or ""
    amp: bool  # whether to train in mixed precision
    amp_dtype: str  # dtype of mixed precision, a key of mixed_precision.DTYPES
    max_iter: int
    batch_size: int  # images in an iteration, over all processes
    eval_period: int  # iterations between evaluations; 0: only at the end
    checkpoints: Mapping[str, Any]  # keyword arguments of PeriodicCheckpointer
    ddp: Mapping[str, Any]  # keyword arguments of DistributedDataParallel
    train_sets: tuple[str, ...]
    test_sets: tuple[str, ...]  # "" is a data set that a LazyConfig does not name
    resize: tuple[int, int]  # shorter side of test images (0: keep the size), maximum of the longer
    num_classes: int | None  # the detector's number of classes, if the config has it
    visualize: Visualize
    build_model: Callable[..., nn.Module]  # takes a device, by default the config's
    build_optimizer: Callable[[nn.Module], torch.optim.Optimizer]
    build_lr_scheduler: Callable[[torch.optim.Optimizer], torch.optim.lr_scheduler.LRScheduler]
    build_mapper: Callable[[], Any]  # of training samples
    build_train_loader: Callable[[], Iterable]
    build_test_loader: Callable[[str], Iterable]  # takes one of test_sets
    build_evaluator: Callable[[str], DatasetEvaluator]  # takes one of test_sets
    best_metric: Callable[[], str]  # name of the metric that decides model_best.pth
    check: Callable[[bool], None]
    dump: Callable[[], str]  # the whole config as text
    describe_model: Callable[[], dict[str, Any]]  # the model's values as plain data, by full key
    max_bad_samples: int = 0  # training samples that may be replaced
    log_period: int = 20  # iterations between lines of the log
    reference_world_size: int = 0  # number of processes that the batch size is for; 0: any
