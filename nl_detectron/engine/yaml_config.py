"""Loads YAML files with overrides as Detectron2's CfgNode, and the runs that they describe."""

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec

from detectron2.config import CfgNode, get_cfg
from detectron2.solver import build_lr_scheduler
from torch import nn

from .. import modeling
from ..config import add_nonlocal_config, detector_section
from ..data.own_dataset import OwnDataset
from ..errors import UsageError
from .base_configs import read_yaml
from .config_checks import check_config
from .config_files import choose_device, config_keys, explain_unknown_key, find_config
from .config_values import flatten, to_plain
from .data_checks import check_fit
from .data_loaders import build_test_loader, build_train_loader, make_mapper
from .dataset_overrides import adapt_config_to_dataset
from .evaluation import best_metric, build_evaluator, check_test_set, check_training_set
from .optimizer import build_optimizer, check_optimizer
from .run import Run, Visualize

KEYS = {
    "output_dir": "OUTPUT_DIR",
    "device": "MODEL.DEVICE",
    "weights": "MODEL.WEIGHTS",
    "amp_dtype": "SOLVER.AMP.DTYPE",
    "batch_size": "SOLVER.IMS_PER_BATCH",
    "max_to_keep": "SOLVER.CHECKPOINTS_TO_KEEP",
    "max_bad_samples": "DATALOADER.MAX_BAD_SAMPLES",
    "test_sets": "DATASETS.TEST",
    "visualize_period": "VISUALIZE.PERIOD",
    "visualize_images": "VISUALIZE.IMAGES",
    "visualize_score": "VISUALIZE.SCORE",
}


def load_config(
    config_file: str,
    opts: Sequence[str] = (),
    data: Sequence[OwnDataset] = (),
    say: Callable[[str], None] = print,
) -> CfgNode:
    """Load a YAML file with ``KEY VALUE`` overrides, over the defaults of Detectron2 and of this
    package; the config is frozen.

    Without CUDA and without an explicit MODEL.DEVICE, the device is the CPU.

    Args:
        config_file: path of a YAML file, also below this package's configs/.
        opts: overrides, keys and values in turn.
        data: the user's data sets. They are registered, and the config is adapted to them by
            :func:`adapt_config_to_dataset`.
        say: called with one line for each change that follows from the data.

    Raises:
        UsageError: the file is missing or no config, or a LazyConfig; a key is unknown; a value is
            not as expected; or a data set is missing, not in COCO's format or not used.
    """
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    config_file = find_config(config_file)
    if config_file.endswith(".py"):
        raise UsageError(f"config file {config_file!r} is a LazyConfig; give a YAML file here")
    written = read_yaml(config_file)
    _merge(cfg, lambda: cfg.merge_from_file(config_file, False), f"config file {config_file!r}")
    late = [item for item in opts if item.startswith("--")]
    if late:
        raise UsageError(f"{late[0]} comes after KEY VALUE overrides: give it before them")
    if len(opts) % 2:
        raise UsageError(
            f"overrides: expected KEY VALUE pairs, got an odd number of items: {' '.join(opts)}"
        )
    known = set(config_keys(cfg))
    for key in opts[::2]:
        if key not in known:
            raise UsageError(f"override: {explain_unknown_key(cfg, key)}")
    _merge(cfg, lambda: cfg.merge_from_list(list(opts)), "override")
    check_config(cfg)
    explicit = "MODEL.DEVICE" in opts[::2] or "DEVICE" in written.get("MODEL", {})
    cfg.MODEL.DEVICE = choose_device(cfg.MODEL.DEVICE, explicit, "MODEL.DEVICE")
    if data:
        adapt_config_to_dataset(cfg, data, opts[::2], say)
    cfg.freeze()
    return cfg


def _merge(cfg: CfgNode, merge: Callable[[], object], source: str) -> None:
    try:
        merge()
    except KeyError as error:  # yacs: "Non-existent config key: MODEL.X"
        key = str(error.args[0]).rsplit(" ", 1)[-1]
        raise UsageError(f"{source}: {explain_unknown_key(cfg, key)}") from error
    except (ValueError, TypeError, AssertionError) as error:  # TypeError: a value for a section
        reason = " ".join(str(error).split())[:500]  # yacs prints whole sections
        raise UsageError(f"{source}: {reason}") from error


def describe_run(cfg: CfgNode) -> Run:
    """Return the run that a config describes."""
    solver, shown = cfg.SOLVER, cfg.VISUALIZE
    return Run(
        cfg=cfg,
        keys={**KEYS, "features": f"{cfg.MODEL.BACKBONE.NAME} with its OUT_FEATURES"},
        output_dir=cfg.OUTPUT_DIR,
        device=cfg.MODEL.DEVICE,
        weights=cfg.MODEL.WEIGHTS,
        amp=solver.AMP.ENABLED,
        amp_dtype=solver.AMP.DTYPE,
        max_iter=solver.MAX_ITER,
        batch_size=solver.IMS_PER_BATCH,
        reference_world_size=solver.REFERENCE_WORLD_SIZE,
        eval_period=cfg.TEST.EVAL_PERIOD,
        checkpoints={"period": solver.CHECKPOINT_PERIOD, "max_to_keep": solver.CHECKPOINTS_TO_KEEP},
        ddp={"broadcast_buffers": False},
        train_sets=tuple(cfg.DATASETS.TRAIN),
        test_sets=tuple(cfg.DATASETS.TEST),
        max_bad_samples=cfg.DATALOADER.MAX_BAD_SAMPLES,
        resize=(cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST),
        num_classes=detector_section(cfg).NUM_CLASSES,
        visualize=Visualize(shown.PERIOD, shown.IMAGES, shown.SCORE),
        build_model=partial(_build_model, cfg),
        build_optimizer=partial(build_optimizer, cfg),
        build_lr_scheduler=partial(build_lr_scheduler, cfg),
        build_mapper=partial(make_mapper, cfg, True),
        build_train_loader=partial(build_train_loader, cfg, KEYS["max_bad_samples"]),
        build_test_loader=partial(build_test_loader, cfg),
        build_evaluator=partial(build_evaluator, cfg),
        best_metric=partial(best_metric, cfg),
        check=partial(_check, cfg),
        dump=cfg.dump,
        describe_model=lambda: flatten(to_plain(cfg.MODEL), "MODEL."),
    )


def _build_model(cfg: CfgNode, device: str | None = None) -> nn.Module:
    if device:
        cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = device
    return modeling.build_model(cfg)


def _check(cfg: CfgNode, training: bool) -> None:
    train, test = cfg.DATASETS.TRAIN if training else (), cfg.DATASETS.TEST
    if training:
        check_optimizer(cfg)
        if not train:
            raise UsageError("DATASETS.TRAIN is empty: name a registered data set to train on")
        masks = cfg.MODEL.MASK_ON and cfg.INPUT.MASK_FORMAT == "polygon"
        if cfg.INPUT.CROP.ENABLED and masks and not find_spec("shapely"):
            raise UsageError(
                "INPUT.CROP.ENABLED: cropping polygons needs the package shapely (pip install "
                "shapely); or set INPUT.MASK_FORMAT to bitmask"
            )
    elif not test:
        raise UsageError("--eval-only, but DATASETS.TEST is empty: name a registered data set")
    for name in train:
        check_training_set(cfg, name)
    for name in test:
        check_test_set(cfg, name)
    check_fit(cfg, train, test)
