"""Sizes, seeds and schedules of the runs. If one changes, runs that use it are trained again."""

import math
from dataclasses import dataclass
from dataclasses import replace as changed

from nl_detectron.relay import Relay

# All settings were chosen on seeds 1 to 20. The tables show runs from the seeds below. Runs that do
# not learn are counted and shown like any other.
TEN, FIVE, THREE = (tuple(range(101, 101 + n)) for n in (10, 5, 3))

FAR = Relay(height=64, width=256, signal=48, beside=0.5, stout=True, train=2000, val=150)
ANY = changed(FAR, width=384, place="any", beside=0.0, val=300)
PAIRS = Relay(height=96, width=256, signal=24, pairs=4, train=2000, val=100)
KEYPOINTS_FAR = changed(FAR, keypoints=True)
KEYPOINTS_END = changed(KEYPOINTS_FAR, place="end", signal=24)
BANDS = (20, 90, 150, 210, 270, 360)  # pixels along x between the centres of object and signal


@dataclass(frozen=True)
class Schedule:
    """A learning rate with a linear warm-up that follows half a cosine to zero.

    Args:
        iterations: number of iterations of a run.
        rate: highest learning rate.
        warmup: iterations of the warm-up.
        cool: if not 0, the rate is constant after the warm-up, and a tenth of it in this number of
            last iterations.
        every: iterations between evaluations during training.
        watched: number of validation images of these evaluations.
    """

    iterations: int = 500
    rate: float = 1.2e-3
    warmup: int = 150
    cool: int = 0
    every: int = 100
    watched: int = 40

    def rate_at(self, iteration: int) -> float:
        """Learning rate of an iteration, counted from 0."""
        risen = min(1.0, (iteration + 1) / self.warmup) if self.warmup else 1.0
        if self.cool:
            return self.rate * (0.1 if iteration >= self.iterations - self.cool else risen)
        return self.rate * risen * (1 + math.cos(math.pi * iteration / self.iterations)) / 2


MASKS = Schedule()
MATCHING = Schedule(iterations=900, warmup=50, every=150)
KEYPOINTS = Schedule(iterations=400, warmup=20)
QUICK = {"iterations": 300, "every": 75, "watched": 20}

# A run counts as learned if it recognises this share of the objects, which only the signal allows.
# Guessing gives a third (of three classes), a half (which end is the head), or 0.59 (for a model
# that knows which colours are in an image of four pairs, but not which belongs to which object). A
# model that recognises one of the three colours, and guesses between the others, has two thirds.
LEARNED = 5 / 6

# Fewer detections and RoIs than in configs/Demo, which suffice for one or four objects per image.
DETECTIONS = 20
PAIRS_OPTS = ("TEST.DETECTIONS_PER_IMAGE", "30", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16")
KEYPOINT_DETECTIONS = 5
KEYPOINT_CONVS = (64,) * 4  # half of the paper's head, for speed; a block after every one

# photographs
REAL_IMAGES = (16, 12)  # number of images, and largest number of objects in an image
REAL_SEEDS = [1, 2]
REAL = Schedule(iterations=90, rate=2e-4, warmup=10, cool=20, every=30)
REAL_OPTS = (
    *("INPUT.MIN_SIZE_TRAIN", "(256,)", "INPUT.MIN_SIZE_TEST", "256"),
    *("INPUT.MAX_SIZE_TRAIN", "448", "INPUT.MAX_SIZE_TEST", "448"),
    *("SOLVER.IMS_PER_BATCH", "2", "SOLVER.BASE_LR", "2e-4", "DATALOADER.NUM_WORKERS", "0"),
    *("SOLVER.OPTIMIZER", "AdamW", "SOLVER.CLIP_GRADIENTS.ENABLED", "True"),
    *("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "norm", "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "5.0"),
    *("MODEL.RPN.PRE_NMS_TOPK_TRAIN", "500", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "200"),
    *("MODEL.RPN.PRE_NMS_TOPK_TEST", "500", "MODEL.RPN.POST_NMS_TOPK_TEST", "200"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "64"),
)
