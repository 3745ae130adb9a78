"""Detectron2's trainer for YAML files and LazyConfigs, with this package's checkpointer."""

import logging
import os
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import (
    DefaultTrainer,
    HookBase,
    TrainerBase,
    default_writers,
    hooks,
)
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from detectron2.utils.logger import setup_logger
from fvcore.nn.precise_bn import get_bn_modules
from torch import nn

from ..config import is_video
from .block_records import find_mismatch
from .checkpoint import Checkpointer
from .distributed import distribute_model
from .evaluation import explain_nothing_found
from .finite_steps import FiniteTrainer
from .full_disk import remove_unfinished_files, report_full_disk
from .hooks import BadSampleCount, BestCheckpointer, EvalHook, RunSummary, write_summary
from .learning_rates import read_settings, restore_settings
from .loading import describe_run, load_model
from .mixed_precision import MixedPrecisionTrainer
from .periodic_checkpoints import PeriodicCheckpointer
from .pictures import Pictures
from .random_states import keep_random_states
from .resume import ResumeState
from .resume_checks import describe_training
from .run import Config
from .run_lock import unlock_folder
from .stopping import StopSignals
from .terminal import ProgressBar, TimelyWriter
from .train_loader import make_resumable
from .video_evaluation import evaluate_videos, with_one_view
from .workers import protect_workers

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Trains and evaluates the model that a YAML file or a LazyConfig describes.

    In addition to Detectron2's own files, it writes ``model_best.pth`` (by the config's best
    metric) and ``summary.json`` into the output folder.
    """

    model: nn.Module  # a property, which Detectron2 adds by setattr

    def __init__(self, cfg: Config):
        TrainerBase.__init__(self)  # DefaultTrainer's would distribute models on GPUs only
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        if isinstance(cfg, CfgNode):
            cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg, self.run = cfg, describe_run(cfg)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader = protect_workers(make_resumable(self.build_train_loader(cfg)))
        model = distribute_model(model, **self.run.ddp)
        if self.run.amp:
            dtype = self.run.amp_dtype
            self._trainer = MixedPrecisionTrainer(model, loader, optimizer, dtype)
        else:
            self._trainer = FiniteTrainer(model, loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        trainer = weakref.proxy(self)
        self.checkpointer = Checkpointer(model, self.run.output_dir, trainer=trainer)
        self.start_iter, self.max_iter = 0, self.run.max_iter
        self.signals = StopSignals()
        self.resume_state = ResumeState(self.run, self.signals)
        self.register_hooks([*self.build_hooks()])  # a list that may hold None

    @classmethod
    def build_model(cls, cfg: Config) -> nn.Module:
        return describe_run(cfg).build_model()

    @classmethod
    def build_optimizer(cls, cfg: Config, model: nn.Module) -> torch.optim.Optimizer:
        return describe_run(cfg).build_optimizer(model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: Config, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return describe_run(cfg).build_lr_scheduler(optimizer)

    @classmethod
    def build_train_loader(cls, cfg: Config) -> Iterable:
        return describe_run(cfg).build_train_loader()

    @classmethod
    def build_test_loader(cls, cfg: Config, dataset_name: str) -> Iterable:
        return describe_run(cfg).build_test_loader(dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: Config, dataset_name: str) -> DatasetEvaluator:
        return describe_run(cfg).build_evaluator(dataset_name)

    @classmethod
    def test(
        cls,
        cfg: Config,
        model: nn.Module,
        evaluators: DatasetEvaluator | Sequence[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model; returns its results on the test set, or by name on several."""
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        results, run = {}, describe_run(cfg)
        for number, name in enumerate(run.test_sets):
            with remove_unfinished_files(os.path.join(run.output_dir, "inference")):
                if evaluators is None and isinstance(cfg, CfgNode) and is_video(cfg):
                    results[name] = evaluate_videos(cfg, model, name)
                else:
                    # first: it may write the annotations
                    loader = protect_workers(cls.build_test_loader(cfg, name))
                    evaluator = evaluators[number] if evaluators else cls.build_evaluator(cfg, name)
                    results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                if nothing := explain_nothing_found(cfg, name, results[name]):
                    logger.warning(nothing)
                logger.info("Evaluation results for %s in csv format:", name)
                print_csv_format(results[name])
        return results if len(results) != 1 else results[name]

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the weights that the config names. With ``resume``, continue from the last
        checkpoint if there is one, at the config's learning rate.

        Blocks in the file that are not those of the model are reported in a warning: a training may
        be meant to start from them.
        """
        settings, loader = read_settings(self._trainer.optimizer), self.checkpointer
        loader.resume_or_load(self.run.weights, resume=resume)
        problem = find_mismatch(self.run, loader.model, loader.blocks, loader.shapes)
        if problem:
            logger.warning("%s is of a model with OTHER NON-LOCAL BLOCKS: %s", loader.path, problem)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1
            restore_settings(self._trainer.optimizer, self.scheduler, settings)
        elif resume:
            self.resume_state.drop_metrics()

    def train(self) -> dict[str, Any] | None:
        """Train to the end, or until SIGTERM or SIGINT stops the run between two iterations, and
        release the output folder.

        Raises:
            Stopped: a signal stopped it; there is a checkpoint of that iteration.
            UsageError: a file could not be written, or the weights are NaN or infinite.
        """
        try:
            with self.signals, report_full_disk(self.run.output_dir):
                return self._train()
        finally:
            self._trainer._data_loader_iter_obj = None  # ends the loader's workers
            unlock_folder(self.run.output_dir)

    def _train(self) -> dict[str, Any] | None:
        if isinstance(self.cfg, CfgNode):
            return super().train()  # it also compares the results with TEST.EXPECTED_RESULTS
        TrainerBase.train(self, self.start_iter, self.max_iter)
        return None

    def before_train(self) -> None:
        super().before_train()
        self.resume_state.restore()

    def after_train(self) -> None:
        self.iter = min(self.iter, self.max_iter)  # one more where a finished run is resumed
        super().after_train()

    def state_dict(self) -> dict[str, Any]:
        # After the last iteration the counter is one too high, and a resumed run would skip one.
        state = {**super().state_dict(), "iteration": min(self.iter, self.max_iter - 1)}
        return {**state, "described": describe_training(self.run, self._trainer.optimizer)}

    def build_hooks(self) -> list[HookBase]:
        run, period = self.run, self.run.eval_period
        built = [hooks.IterationTimer(), hooks.LRScheduler(), self._precise_bn()]
        built.append(self.resume_state)
        if comm.is_main_process():
            built.append(PeriodicCheckpointer(self.checkpointer, **run.checkpoints))
        if run.test_sets:
            built.append(EvalHook(period, self._evaluate))
        built.append(BadSampleCount())
        if comm.is_main_process():
            if run.test_sets:
                built.append(BestCheckpointer(period, self.checkpointer, run.best_metric()))
            if run.visualize.period:
                built.append(Pictures(run))
            built.append(RunSummary(run.output_dir, device=run.device, config=run.dump()))
            built.append(ProgressBar())
            # the writer is last, so that it writes what the other hooks put into the storage
            built.append(TimelyWriter(self.build_writers(), run.log_period))
        return [hook for hook in built if hook]

    def build_writers(self) -> list[EventWriter]:
        return default_writers(self.run.output_dir, self.max_iter)

    def _precise_bn(self) -> HookBase | None:
        """Detectron2's hook of TEST.PRECISE_BN, which only a YAML file has."""
        if not isinstance(self.cfg, CfgNode):
            return None
        options = self.cfg.TEST.PRECISE_BN
        if not (options.ENABLED and get_bn_modules(self.model)):
            return None
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0  # as in Detectron2
        loader = make_resumable(self.build_train_loader(cfg))
        return hooks.PreciseBN(self.run.eval_period, self.model, loader, options.NUM_ITER)

    def _evaluate(self) -> dict[str, Any]:
        cfg = self.cfg
        if isinstance(cfg, CfgNode) and is_video(cfg) and self.iter + 1 < self.max_iter:
            cfg = with_one_view(cfg)
        # a data loader draws a seed as it begins: training goes on as it would without evaluations
        with keep_random_states():
            self._last_eval_results = self.test(cfg, self.model)
        return self._last_eval_results


def evaluate(cfg: Config, resume: bool = False) -> dict[str, Any]:
    """Evaluate the weights that a config names (with ``resume``, the last checkpoint in its output
    folder), and write ``evaluation.json`` in the output folder.

    A non-local model can also be evaluated with a baseline's weights; its blocks are then
    identities.

    Raises:
        UsageError: the weights lack tensors outside non-local blocks, or a file could not be
            written.
    """
    loaded = load_model(cfg, resume=resume)
    loaded.check_trained("an evaluation")
    if loaded.untrained_blocks:
        logger.warning(
            "%s lacks %s: untrained blocks are identities, so the model is evaluated without",
            loaded.checkpoint,
            ", ".join(loaded.untrained_blocks),
        )
    run = loaded.run
    with report_full_disk(run.output_dir, "evaluate again"):
        results = Trainer.test(cfg, loaded.model)
        if comm.is_main_process():
            write_summary(
                os.path.join(run.output_dir, "evaluation.json"),
                results,
                checkpoint=loaded.checkpoint,
                device=run.device,
                config=run.dump(),
            )
    return results
