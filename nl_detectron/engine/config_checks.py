"""Tables of what config keys may be, for YAML files and LazyConfigs."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.config import CfgNode
from omegaconf import ListConfig, OmegaConf

from ..errors import UsageError
from .config_conditions import (
    ANCHORS,
    BOX_LOSS,
    COUNT,
    COUNTS,
    DEVICE,
    DIMS,
    FLAG,
    FOUR,
    LAYERS,
    NAMES,
    NORM,
    NUMBERS,
    ONE_OR_THREE,
    POSITIVE,
    RATE,
    RATE_ABOVE_0,
    RATE_OR_NONE,
    RESULTS,
    SEED,
    SHARE,
    SIDES,
    SIGMAS,
    SIZE_PAIR,
    STEPS,
    TEXT,
    WHOLE,
    Condition,
    integer,
    number,
    one_of,
)
from .config_relations import check_relations
from .config_values import flatten
from .run import Config

MAY_BE_INFINITE = ("SOLVER.CLIP_GRADIENTS.NORM_TYPE",)
# Keys of YAML files. Values that no condition allows would be a traceback, or a useless run.
YAML_CHECKS: dict[Condition, tuple[str, ...]] = {
    COUNT: (
        *("SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.CHECKPOINT_PERIOD"),
        *("INPUT.MAX_SIZE_TRAIN", "INPUT.MAX_SIZE_TEST", "TEST.PRECISE_BN.NUM_ITER"),
        *("MODEL.ROI_HEADS.NUM_CLASSES", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE"),
        *("MODEL.RETINANET.NUM_CLASSES", "MODEL.RETINANET.TOPK_CANDIDATES_TEST"),
        *("MODEL.RPN.BATCH_SIZE_PER_IMAGE", "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS"),
        *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "MODEL.RPN.PRE_NMS_TOPK_TEST"),
        *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "MODEL.RPN.POST_NMS_TOPK_TEST"),
        *("MODEL.FPN.OUT_CHANNELS", "MODEL.RESNETS.WIDTH_PER_GROUP"),
        *("MODEL.RESNETS.STEM_OUT_CHANNELS", "MODEL.RESNETS.RES2_OUT_CHANNELS"),
        *("MODEL.NONLOCAL.REDUCTION", "VISUALIZE.IMAGES", "SOLVER.NUM_DECAYS"),
        *("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION"),
        *("MODEL.ROI_KEYPOINT_HEAD.POOLER_RESOLUTION", "MODEL.RESNETS.NUM_GROUPS"),
        *("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "TEST.AUG.MAX_SIZE"),
        *("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TEST", "MODEL.ROI_MASK_HEAD.CONV_DIM"),
        *("MODEL.ROI_BOX_HEAD.CONV_DIM", "MODEL.ROI_BOX_HEAD.FC_DIM"),
        *("INPUT.VIDEO.FRAMES", "INPUT.VIDEO.RATE", "INPUT.VIDEO.CROP_SIZE"),
        *("TEST.VIDEO.CLIPS", "TEST.VIDEO.SHORT_SIDE", "TEST.VIDEO.BATCH"),
        "MODEL.VIDEO.NUM_CLASSES",
    ),
    WHOLE: (
        *("DATALOADER.NUM_WORKERS", "DATALOADER.MAX_BAD_SAMPLES", "SOLVER.WARMUP_ITERS"),
        *("SOLVER.REFERENCE_WORLD_SIZE", "TEST.EVAL_PERIOD", "INPUT.MIN_SIZE_TEST"),
        *("MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE", "MODEL.BACKBONE.FREEZE_AT"),
        *("VISUALIZE.PERIOD", "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO"),
        *("MODEL.ROI_MASK_HEAD.POOLER_SAMPLING_RATIO", "TEST.VIDEO.CROP_SIZE"),
        "MODEL.ROI_KEYPOINT_HEAD.POOLER_SAMPLING_RATIO",
    ),
    LAYERS: (
        *("MODEL.ROI_BOX_HEAD.NUM_FC", "MODEL.ROI_BOX_HEAD.NUM_CONV"),
        *("MODEL.ROI_MASK_HEAD.NUM_CONV", "MODEL.RETINANET.NUM_CONVS"),
    ),
    integer(-1): ("TEST.DETECTIONS_PER_IMAGE",),
    SEED: ("SEED",),
    RATE_ABOVE_0: ("SOLVER.BASE_LR",),
    RATE_OR_NONE: ("SOLVER.BIAS_LR_FACTOR", "SOLVER.WEIGHT_DECAY_BIAS"),
    RATE: (
        *("SOLVER.BASE_LR_END", "SOLVER.GAMMA", "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM"),
        *("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "DATALOADER.REPEAT_THRESHOLD"),
        *("MODEL.RPN.LOSS_WEIGHT", "MODEL.RPN.BBOX_REG_LOSS_WEIGHT"),
        *("MODEL.RPN.SMOOTH_L1_BETA", "MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA"),
        *("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "MODEL.ROI_KEYPOINT_HEAD.LOSS_WEIGHT"),
        "MODEL.PROPOSAL_GENERATOR.MIN_SIZE",
    ),
    number(0, 1000): ("SOLVER.NONLOCAL_LR_FACTOR", "SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR"),
    number(-1, 1e6): ("MODEL.RPN.BOUNDARY_THRESH",),
    SHARE: (
        *("SOLVER.MOMENTUM", "SOLVER.WARMUP_FACTOR", "VISUALIZE.SCORE"),
        *("MODEL.RPN.POSITIVE_FRACTION", "MODEL.RPN.NMS_THRESH"),
        *("MODEL.ROI_HEADS.POSITIVE_FRACTION", "MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
        *("MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.RETINANET.SCORE_THRESH_TEST"),
        *("MODEL.RETINANET.NMS_THRESH_TEST", "MODEL.VIDEO.DROPOUT"),
    ),
    FLAG: (
        *("MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS", "SOLVER.NESTEROV"),
        *("SOLVER.AMP.ENABLED", "SOLVER.CLIP_GRADIENTS.ENABLED", "INPUT.CROP.ENABLED"),
        *("DATALOADER.ASPECT_RATIO_GROUPING", "DATALOADER.FILTER_EMPTY_ANNOTATIONS"),
        *("DATASETS.ALLOW_OUTSIDE_IMAGES", "TEST.AUG.ENABLED", "TEST.PRECISE_BN.ENABLED"),
        *("MODEL.NONLOCAL.USE_SCALE", "MODEL.NONLOCAL.CHECKPOINT", "TEST.AUG.FLIP"),
        *("SOLVER.RESCALE_INTERVAL", "DATALOADER.REPEAT_SQRT", "CUDNN_BENCHMARK"),
        *("MODEL.ROI_HEADS.PROPOSAL_APPEND_GT", "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"),
        *("MODEL.ROI_BOX_HEAD.TRAIN_ON_PRED_BOXES", "MODEL.ROI_MASK_HEAD.CLS_AGNOSTIC_MASK"),
        *("TEST.VIDEO.ONE_VIEW", "TEST.VIDEO.ONE_VIEW_IN_TRAINING", "MODEL.VIDEO.MULTI_LABEL"),
        "TEST.VIDEO.FULLY_CONV",
    ),
    TEXT: (
        *("OUTPUT_DIR", "MODEL.WEIGHTS", "MODEL.META_ARCHITECTURE", "MODEL.BACKBONE.NAME"),
        *("MODEL.NONLOCAL.PAIRWISE", "MODEL.NONLOCAL.SUBSAMPLE", "SOLVER.OPTIMIZER"),
    ),
    DEVICE: ("MODEL.DEVICE",),
    NUMBERS: ("MODEL.PIXEL_MEAN",),
    POSITIVE: ("MODEL.PIXEL_STD",),
    ANCHORS: ("MODEL.ANCHOR_GENERATOR.SIZES", "MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS"),
    SIGMAS: ("TEST.KEYPOINT_OKS_SIGMAS",),
    FOUR: (
        *("MODEL.RPN.BBOX_REG_WEIGHTS", "MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS"),
        "MODEL.RETINANET.BBOX_REG_WEIGHTS",
    ),
    COUNTS: ("TEST.AUG.MIN_SIZES", "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS"),
    DIMS: ("MODEL.RPN.CONV_DIMS",),
    NORM: MAY_BE_INFINITE,
    RESULTS: ("TEST.EXPECTED_RESULTS",),
    BOX_LOSS: (
        *("MODEL.RPN.BBOX_REG_LOSS_TYPE", "MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE"),
        "MODEL.RETINANET.BBOX_REG_LOSS_TYPE",
    ),
    SIDES: ("INPUT.MIN_SIZE_TRAIN",),
    SIZE_PAIR: ("INPUT.CROP.SIZE",),
    STEPS: ("SOLVER.STEPS",),
    NAMES: ("DATASETS.TRAIN", "DATASETS.TEST"),
    one_of("BGR", "RGB", "YUV-BT.601", "L"): ("INPUT.FORMAT",),
    one_of("polygon", "bitmask"): ("INPUT.MASK_FORMAT",),
    one_of("horizontal", "vertical", "none"): ("INPUT.RANDOM_FLIP",),
    one_of("choice", "range"): ("INPUT.MIN_SIZE_TRAIN_SAMPLING",),
    one_of("absolute", "absolute_range", "relative", "relative_range"): ("INPUT.CROP.TYPE",),
    one_of("linear", "constant"): ("SOLVER.WARMUP_METHOD",),
    one_of("average", "max"): ("TEST.VIDEO.ENSEMBLE",),
    ONE_OR_THREE: ("TEST.VIDEO.CROPS",),
    one_of("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR"): (
        "SOLVER.LR_SCHEDULER_NAME",
    ),
    one_of("value", "norm"): ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE",),
    one_of(
        *("TrainingSampler", "RepeatFactorTrainingSampler", "RandomSubsetTrainingSampler"),
        *("WeightedTrainingSampler", "WeightedCategoryTrainingSampler"),
    ): ("DATALOADER.SAMPLER_TRAIN",),
}
# Keys of LazyConfigs; those that a config lacks are not checked.
LAZY_CHECKS: dict[Condition, tuple[str, ...]] = {
    COUNT: (
        *("train.max_iter", "train.log_period", "train.checkpointer.period"),
        *("dataloader.train.total_batch_size", "train.visualize.images"),
        *("model.roi_heads.num_classes", "model.roi_heads.batch_size_per_image"),
        *("model.num_classes", "model.proposal_generator.batch_size_per_image"),
        "model.backbone.block.reduction",
    ),
    WHOLE: (
        *("dataloader.train.num_workers", "dataloader.test.num_workers"),
        *("train.eval_period", "train.max_bad_samples", "train.visualize.period"),
    ),
    SEED: ("train.seed",),
    RATE_ABOVE_0: ("optimizer.lr",),
    RATE: ("optimizer.weight_decay", "optimizer.params.base_lr"),
    number(0, 1000): (
        "optimizer.params.lr_factor_func.factor",
        "optimizer.params.lr_factor_func.pairwise_factor",
    ),
    SHARE: (
        *("train.visualize.score", "lr_multiplier.warmup_length", "lr_multiplier.warmup_factor"),
        *("model.proposal_generator.positive_fraction", "model.roi_heads.positive_fraction"),
        *("model.roi_heads.box_predictor.test_score_thresh", "model.test_score_thresh"),
    ),
    FLAG: (
        *("train.amp.enabled", "train.allow_outside_images"),
        "model.backbone.block.use_scale",
    ),
    TEXT: ("train.output_dir", "train.init_checkpoint"),
    DEVICE: ("train.device",),
    NUMBERS: ("model.pixel_mean",),
    POSITIVE: ("model.pixel_std",),
    ANCHORS: ("model.proposal_generator.anchor_generator.sizes", "model.anchor_generator.sizes"),
    SIDES: (
        "dataloader.train.mapper.augmentations.0.short_edge_length",
        "dataloader.test.mapper.augmentations.0.short_edge_length",
    ),
}
MISSING = object()


def check_config(cfg: Config) -> None:
    """Check the values of a config by the tables of this module.

    Raises:
        UsageError: the first value that is not as expected, with its key.
    """
    if isinstance(cfg, CfgNode):
        values = flatten(cfg)
        for key, value in values.items():
            for part in _numbers_in(value):
                if not math.isfinite(part) and key not in MAY_BE_INFINITE:
                    raise UsageError(f"{key}: expected finite numbers, got {value!r}")
        _check(YAML_CHECKS, lambda key: values.get(key, MISSING))
        check_relations(values)
    else:
        _check(LAZY_CHECKS, lambda key: _select(cfg, key))


def _check(checks: dict[Condition, tuple[str, ...]], get: Callable[[str], Any]) -> None:
    for condition, keys in checks.items():
        for key in keys:
            value = get(key)
            if value is not MISSING and not condition.holds(value):
                raise UsageError(f"{key}: expected {condition.expected}, got {value!r}")


def _select(cfg: Any, key: str) -> Any:
    try:
        value = OmegaConf.select(cfg, key, default=MISSING)
    except Exception as error:  # OmegaConf's own, for an interpolation of nothing
        raise UsageError(f"{key}: {' '.join(str(error).split())}") from error
    return OmegaConf.to_container(value, resolve=True) if isinstance(value, ListConfig) else value


def _numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, list | tuple):
        for inner in value:
            yield from _numbers_in(inner)
    elif isinstance(value, float):
        yield value
