"""Every size of the evidence. Change one, and the runs that it touches are made anew."""

import math
from dataclasses import dataclass
from dataclasses import replace as changed

from nl_detectron.relay import Relay

# Settings were chosen on seeds 1 to 20 alone. What the tables show comes from these, which no
# setting was chosen on; a run that does not learn is counted and shown like any other.
TEN, FIVE, THREE = (tuple(range(101, 101 + n)) for n in (10, 5, 3))

FAR = Relay(height=64, width=256, signal=48, beside=0.5, stout=True, train=2000, val=150)
ANY = changed(FAR, width=384, place="any", beside=0.0, val=300)
PAIRS = Relay(height=96, width=256, signal=24, pairs=4, train=2000, val=100)
KEYPOINTS_FAR = changed(FAR, keypoints=True)
KEYPOINTS_END = changed(KEYPOINTS_FAR, place="end", signal=24)
BANDS = (20, 90, 150, 210, 270, 360)  # pixels along x between the centres of object and signal


@dataclass(frozen=True)
class Schedule:
    """A rate that rises linearly, then follows a half cosine to zero.

    Args:
        iterations: number of iterations of a run.
        rate: learning rate.
        warmup: iterations until the rate has risen to its schedule.
        cool: if not 0, the rate is constant instead, and a tenth of it for so many iterations at
            the end.
        every: iterations between evaluations on ``watched`` validation images.
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
MATCHING_LONG = changed(MATCHING, iterations=2700, every=300)
KEYPOINTS = Schedule(iterations=400, warmup=20)
QUICK = {"iterations": 300, "every": 75, "watched": 20}

# A run has learned what only a signal can tell when it recognises this share of the objects. By
# guessing it would be a third (of three classes), a half (which end is the head), or 0.59 (who
# knows the colours of an image of four pairs, but not whose they are); a model that knows one of
# the three colours, and guesses which of the others it is, recognises two thirds.
LEARNED = 5 / 6

# over configs/Demo: fewer detections, which an image of one object, or of four, does not miss
DETECTIONS = 20
PAIRS_OPTS = ("TEST.DETECTIONS_PER_IMAGE", "30", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16")
KEYPOINT_DETECTIONS = 5
KEYPOINT_CONVS = (64,) * 4  # half of the paper's head, for speed; a block after every one

# real photographs
REAL_IMAGES = (16, 12)  # how many, and at most so many objects in each
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
