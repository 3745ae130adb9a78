"""Tiny relay data sets, and the same thin configs as YAML files and as LazyConfigs."""

from pathlib import Path

from nl_detectron.relay import Relay

ROOT = Path(__file__).parents[2]
TINY = {
    "tiny": Relay(train=8, val=4, height=64, width=128, signal=9),
    "tiny_keypoints": Relay(keypoints=True, train=8, val=4, height=64, width=128, signal=9),
}
THIN = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.WARMUP_ITERS", "0"),
    *("SOLVER.LR_SCHEDULER_NAME", "WarmupMultiStepLR", "SOLVER.STEPS", "()"),
]
# The same for the LazyConfig, whose model is as wide as the Demo's.
THIN_LAZY = [
    *("dataloader.train.dataset.names=tiny_train", "dataloader.test.dataset.names=tiny_val"),
    "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=64",
    *("dataloader.train.total_batch_size=2", "lr_multiplier.warmup_length=0"),
    *("lr_multiplier.scheduler.end_value=1.0", "train.device=cpu"),
]
WIDE = ("MODEL.RESNETS.WIDTH_PER_GROUP", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
# Options of a run, by their keys in a YAML file and in a LazyConfig.
KEYS = {
    "amp": ("SOLVER.AMP.ENABLED", "train.amp.enabled"),
    "amp_dtype": ("SOLVER.AMP.DTYPE", "train.amp.dtype"),
    "after": ("MODEL.NONLOCAL.BACKBONE.AFTER", "model.backbone.after"),
    "batch_size": ("SOLVER.IMS_PER_BATCH", "dataloader.train.total_batch_size"),
    "device": ("MODEL.DEVICE", "train.device"),
    "max_bad_samples": ("DATALOADER.MAX_BAD_SAMPLES", "train.max_bad_samples"),
    "max_iter": ("SOLVER.MAX_ITER", "train.max_iter"),
    "norm": ("MODEL.NONLOCAL.NORM", "model.backbone.block.norm"),
    "num_classes": ("MODEL.ROI_HEADS.NUM_CLASSES", "model.roi_heads.num_classes"),
    "pairwise_factor": (
        "SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR",
        "optimizer.params.lr_factor_func.pairwise_factor",
    ),
    "score_threshold": (
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
        "model.roi_heads.box_predictor.test_score_thresh",
    ),
    "train_set": ("DATASETS.TRAIN", "dataloader.train.dataset.names"),
    "visualize_images": ("VISUALIZE.IMAGES", "train.visualize.images"),
    "visualize_period": ("VISUALIZE.PERIOD", "train.visualize.period"),
    "visualize_score": ("VISUALIZE.SCORE", "train.visualize.score"),
    "weights": ("MODEL.WEIGHTS", "train.init_checkpoint"),
}
KINDS = ("yaml", "lazy")
