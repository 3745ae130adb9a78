"""Runs of a LazyConfig: trained in Detectron2's way, with a YAML's checks and files.

A LazyConfig is a ``.py`` file that describes calls: ``model``, ``optimizer``, ``lr_multiplier``,
``dataloader`` and, with plain values, ``train``.
"""

import copy
import os
import tempfile
from argparse import Namespace
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.engine import (
    HookBase,
    SimpleTrainer,
    default_writers,
    hooks,
)
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.model_zoo import get_config
from detectron2.solver import LRMultiplier
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.utils import comm
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from torch import nn

from ..errors import UsageError
from .checkpoint import Checkpointer, load_trained
from .data_checks import check_dataset
from .dataset_overrides import register_data
from .distributed import distribute_model
from .hooks import BestCheckpointer, EvalHook, RunSummary, write_summary
from .mixed_precision import MixedPrecisionTrainer, check_precision
from .setup import (
    check_file,
    check_norms,
    check_processes,
    check_weights,
    choose_device,
    count_processes,
    no_key,
    start_run,
)

SECTIONS = ("model", "optimizer", "lr_multiplier", "dataloader", "train")
# An override is of the same kind as what it overrides; where that is no such thing, anything.
KINDS = {"True or False": bool, "a number": (int, float), "a section": Mapping}
MISSING = object()


def load_config(config_file: str, opts: list[str] = ()) -> DictConfig:
    """A LazyConfig with ``key=value`` overrides (``+key=value`` adds a key).

    What ``train`` leaves out is that of Detectron2's common/train.py. Where there is no CUDA and
    no override of train.device, the device is the CPU.

    Raises:
        UsageError: a file that is missing or no config, an unknown key, a value of a wrong type.
    """
    check_file(config_file)
    try:
        cfg = LazyConfig.load(config_file)
    except Exception as error:  # it is Python, so anything
        reason = " ".join(str(error.__cause__ or error).split())
        kind = type(error).__name__
        raise UsageError(f"config file {config_file!r} cannot be read: {kind}: {reason}") from error
    lacking = [name for name in SECTIONS if not isinstance(cfg.get(name), DictConfig)]
    if lacking:
        raise UsageError(
            f"config file {config_file!r} lacks {', '.join(lacking)}: a LazyConfig describes "
            f"{', '.join(SECTIONS)}"
        )
    defaults = {"amp": {"dtype": "float16"}}  # ours: see SOLVER.AMP.DTYPE
    cfg.train = OmegaConf.merge(get_config("common/train.py").train, defaults, cfg.train)
    overridden = _override(cfg, opts)
    explicit = "train.device" in overridden
    cfg.train.device = choose_device(cfg.train.device, explicit, "train.device")
    return cfg


def _override(cfg: DictConfig, opts: list[str]) -> set[str]:
    """Apply overrides in place; returns their keys."""
    try:
        overrides = OverridesParser.create().parse_overrides(list(opts))
    except HydraException as error:
        reason = str(error).split("\n")[0]
        raise UsageError(
            f"overrides of a LazyConfig come as key=value, got {' '.join(opts)}: {reason}"
        ) from error
    for override in overrides:
        key, told = override.key_or_group, f"override {override.input_line}"
        if override.is_delete() or override.is_sweep_override():
            raise UsageError(f"{told}: expected key=value; a list is [1,2], and nothing is deleted")
        old = OmegaConf.select(cfg, key, default=MISSING)
        if old is MISSING and not (override.is_add() or override.is_force_add()):
            written = OmegaConf.to_container(cfg, resolve=False)
            raise UsageError(f"{told}: {no_key(written, key)}; to add one, +{key}=value")
        wanted, value = _kind(old), override.value()
        if wanted not in (None, _kind(value)) and not isinstance(value, list | None):
            raise UsageError(f"{told}: expected {wanted}, got {value!r}")
    try:
        LazyConfig.apply_overrides(cfg, list(opts))
    except KeyError as error:  # a key below a value
        raise UsageError(f"overrides: {error.args[0]}") from error
    return {override.key_or_group for override in overrides}


def _kind(value: Any) -> str | None:
    return next((name for name, types in KINDS.items() if isinstance(value, types)), None)


def preflight(cfg: DictConfig, args: Namespace) -> None:
    """Check devices, data sets and weights of a run before it starts.

    Args:
        cfg: of :func:`load_config`.
        args: of :func:`argument_parser`, or of Detectron2's ``default_argument_parser``.

    Raises:
        UsageError: what is missing, and what to do about it.
    """
    options = cfg.train
    check_processes(args, options.device, "train.device")
    check_precision(options.amp.enabled, options.amp.dtype, options.device, "train.amp.dtype")
    if type(options.max_iter) is not int or options.max_iter < 1:
        raise UsageError(f"train.max_iter: expected an integer above 0, got {options.max_iter}")
    if args.eval_only and "evaluator" not in cfg.dataloader:
        raise UsageError("--eval-only, but dataloader has no evaluator")
    if not isinstance(cfg.dataloader.get("evaluator", {}).get("dataset_name", ""), str):
        raise UsageError("dataloader.test.dataset.names: expected one data set, not a list")
    used = {part: _sets(cfg, part) for part in ("train", "test")}
    _check_own(args, {name for names in used.values() for name in names})
    for name in (*(() if args.eval_only else used["train"]), *used["test"]):
        check_dataset(name)
    try:
        with torch.device("meta"):  # shapes and no memory
            model = instantiate(cfg.model)
    except (ValueError, TypeError, KeyError, AssertionError, ImportError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"this config describes no model: {reason}") from error
    check_norms(model, args, options.device)
    if not args.eval_only:
        _check_batch(cfg, args)
    check_weights(args, options.init_checkpoint, options.output_dir, "train.init_checkpoint")


def _check_batch(cfg: DictConfig, args: Namespace) -> None:
    batch = OmegaConf.select(cfg.dataloader, "train.total_batch_size", default=0)
    if batch % count_processes(args):
        raise UsageError(
            f"dataloader.train.total_batch_size is {batch}: expected a multiple of "
            f"{count_processes(args)}, the number of GPUs, or of processes, in all"
        )


def _sets(cfg: DictConfig, part: str) -> list[str]:
    names = OmegaConf.select(cfg.dataloader, f"{part}.dataset.names", default=())
    return [names] if isinstance(names, str) else list(names)


def _check_own(args: Namespace, used: set[str]) -> None:
    """Data sets of --dataset are registered; all else a LazyConfig says itself."""
    if getattr(args, "batch_size", None) is not None:
        raise UsageError(
            "--batch-size scales a YAML; of a LazyConfig set dataloader.train.total_batch_size, "
            "optimizer.lr, lr_multiplier and train.max_iter"
        )
    register_data(getattr(args, "dataset", ()))
    for data in getattr(args, "dataset", ()):
        if data.name not in used:
            raise UsageError(
                f"--dataset {data.name} is used nowhere: a LazyConfig names its data sets in "
                "dataloader.train.dataset.names and dataloader.test.dataset.names, and their "
                "number of classes in its model"
            )


def run(args: Namespace) -> None:
    """What each process runs. Each reads the config for itself: what a LazyConfig defines in its
    own file cannot be sent to another process."""
    cfg = load_config(args.config_file, args.opts)
    start_run(cfg, args)
    if args.eval_only:
        evaluate(cfg, resume=args.resume)
    else:
        train(cfg, resume=args.resume)


def build_model(cfg: DictConfig) -> nn.Module:
    return instantiate(cfg.model).to(cfg.train.device)


def build_optimizer(cfg: DictConfig, model: nn.Module) -> torch.optim.Optimizer:
    call = copy.deepcopy(cfg.optimizer)  # the config shall not hold the model
    call.params.model = model
    if cfg.train.amp.enabled and call.get("fused"):
        call.fused = False  # see Trainer.build_optimizer
    return instantiate(call)


def clipped(
    optimizer: type[torch.optim.Optimizer], params: Iterable, *, norm: float, **options
) -> torch.optim.Optimizer:
    """An optimizer before whose steps each tensor's gradient is clipped to a 2-norm, as by
    SOLVER.CLIP_GRADIENTS of a YAML with CLIP_TYPE "norm"."""
    clip = {"ENABLED": True, "CLIP_TYPE": "norm", "CLIP_VALUE": norm, "NORM_TYPE": 2.0}
    cfg = CfgNode({"SOLVER": {"CLIP_GRADIENTS": clip}})
    return maybe_add_gradient_clipping(cfg, optimizer(params, **options))


def train(cfg: DictConfig, resume: bool = False) -> SimpleTrainer:
    """Train what a config describes, or with ``resume`` go on from the last checkpoint.

    ``train.output_dir`` gets the files that :class:`Trainer` leaves.
    """
    model = build_model(cfg)
    optimizer = build_optimizer(cfg, model)
    loader = instantiate(cfg.dataloader.train)
    model = distribute_model(model, **cfg.train.ddp)
    if cfg.train.amp.enabled:
        trainer = MixedPrecisionTrainer(model, loader, optimizer, cfg.train.amp.dtype)
    else:
        trainer = SimpleTrainer(model, loader, optimizer)
    checkpointer = Checkpointer(model, cfg.train.output_dir, trainer=RunState(trainer))
    trainer.register_hooks(build_hooks(cfg, trainer, checkpointer))
    checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=resume)
    resumed = resume and checkpointer.has_checkpoint()
    trainer.train(trainer.iter + 1 if resumed else 0, cfg.train.max_iter)
    return trainer


def build_hooks(
    cfg: DictConfig, trainer: SimpleTrainer, checkpointer: Checkpointer
) -> list[HookBase]:
    """Those of :class:`Trainer`, in its order."""
    options, evaluated = cfg.train, "evaluator" in cfg.dataloader
    multiplier = instantiate(cfg.lr_multiplier)
    scheduler = LRMultiplier(trainer.optimizer, multiplier, options.max_iter)

    def evaluation() -> dict:
        trainer._last_eval_results = test(cfg, trainer.model)  # where RunSummary looks
        return trainer._last_eval_results

    built = [hooks.IterationTimer(), hooks.LRScheduler(scheduler=scheduler)]
    if comm.is_main_process():
        built.append(hooks.PeriodicCheckpointer(checkpointer, **options.checkpointer))
    if evaluated:
        built.append(EvalHook(options.eval_period, evaluation))
    if not comm.is_main_process():
        return built
    if evaluated:
        built.append(BestCheckpointer(options.eval_period, checkpointer, best_metric(cfg)))
    built.append(RunSummary(options.output_dir, **_describe_run(cfg)))
    writers = default_writers(options.output_dir, options.max_iter)
    return [*built, hooks.PeriodicWriter(writers, period=options.log_period)]


class RunState:
    """What a checkpoint keeps of a trainer, laid out as DefaultTrainer does: a run goes on with
    either kind of config."""

    def __init__(self, trainer: SimpleTrainer):
        self.trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        state = self.trainer.state_dict()
        finished = min(self.trainer.iter, self.trainer.max_iter - 1)  # see Trainer.state_dict
        return {"iteration": finished, "hooks": state.pop("hooks"), "_trainer": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.trainer.load_state_dict({**state["_trainer"], **state})


def best_metric(cfg: DictConfig) -> str:
    """What decides the best checkpoint: AP of the evaluator's last task, or of boxes."""
    tasks = cfg.dataloader.evaluator.get("tasks") or ["bbox"]
    return f"{tasks[-1]}/AP"


def test(cfg: DictConfig, model: nn.Module) -> dict:
    """Evaluate a model on ``dataloader.test``."""
    loader = instantiate(cfg.dataloader.test)  # first: it may write what the evaluator reads
    results = inference_on_dataset(model, loader, instantiate(cfg.dataloader.evaluator))
    if comm.is_main_process():
        print_csv_format(results)
    return results


def evaluate(cfg: DictConfig, resume: bool = False) -> dict:
    """Evaluate train.init_checkpoint (with ``resume``, the last checkpoint in train.output_dir).

    Writes ``evaluation.json`` there.

    Raises:
        UsageError: weights that lack more than the non-local blocks.
    """
    weights, folder = cfg.train.init_checkpoint, cfg.train.output_dir
    model = build_model(cfg)
    loaded = load_trained(model, weights, folder, resume=resume, key="train.init_checkpoint")
    results = test(cfg, model)
    if comm.is_main_process():
        path = os.path.join(folder, "evaluation.json")
        write_summary(path, results, checkpoint=loaded, **_describe_run(cfg))
    return results


def _describe_run(cfg: DictConfig) -> dict[str, str]:
    """What a summary says of the run."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "config.yaml")
        LazyConfig.save(cfg, str(file))
        return {"device": cfg.train.device, "config": file.read_text()}
