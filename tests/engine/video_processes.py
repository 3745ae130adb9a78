"""What the processes of test_video_runs.py import and run."""

from pathlib import Path

from config_kinds import ROOT
from detectron2.config import CfgNode

from nl_detectron.engine import evaluate, load_config
from nl_detectron.video_relay import VideoRelay, register_split

CONFIG = ROOT / "configs/Demo/relay_video_c2d_nl.yaml"
TINY = VideoRelay(pictures=4, hold=1, size=32, margin=0, patch=8, shape=10, train=8, val=5)
THIN = (
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8"),
    *("INPUT.MIN_SIZE_TRAIN", "(32, 36)", "INPUT.VIDEO.CROP_SIZE", "32"),
    *("INPUT.VIDEO.FRAMES", "4", "INPUT.VIDEO.RATE", "1", "DATALOADER.NUM_WORKERS", "0"),
    *("TEST.VIDEO.SHORT_SIDE", "32", "TEST.VIDEO.CROP_SIZE", "32"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2"),
    *("SOLVER.STEPS", "()", "SOLVER.WARMUP_ITERS", "0"),
)
SETS = ("DATASETS.TRAIN", "('tiny_video_train',)", "DATASETS.TEST", "('tiny_video_val',)")


def make_config(folder: Path, *overrides: object) -> CfgNode:
    words = [*THIN, *SETS, "OUTPUT_DIR", str(folder), *map(str, overrides)]
    return load_config(str(CONFIG), words)


def register() -> None:
    for split in ("train", "val"):
        register_split(f"tiny_video_{split}", TINY, split)


def evaluate_weights(weights: Path, folder: Path) -> None:
    register()
    evaluate(make_config(folder, "MODEL.WEIGHTS", weights))
