"""Every size of the evidence. Change one, and the runs that it touches are made anew."""

from dataclasses import dataclass
from dataclasses import replace as changed

from nl_detectron.data import Relay

MANY, SOME, FEW, LAST = (1, 2, 3, 4, 5), (1, 2, 3), (1, 2), (2, 3)  # seeds

FAR = Relay(height=64, width=256, signal=24, train=2000, val=150)
ANY = changed(FAR, width=384, place="any", val=300)
PAIRS = changed(FAR, height=96, pairs=4, val=100)
KEYPOINTS_FAR = changed(FAR, keypoints=True)
KEYPOINTS_END = changed(KEYPOINTS_FAR, place="end")
BANDS = (20, 90, 150, 210, 270, 360)  # pixels along x between the centres of object and signal


@dataclass(frozen=True)
class Schedule:
    """A low rate until the block has found the signal, then a higher one, then a tenth of it.

    The tenth ends every run. It begins after ``iterations`` less ``cool``, or sooner by the one
    rule of stopping: see :meth:`is_flat`.

    Args:
        iterations: at most.
        rate, low: learning rates; ``low`` holds for the first ``low_until`` iterations.
        cool: iterations at a tenth of ``rate``.
        every: iterations from one look at ``watched`` validation images to the next.
        least, patience, gain: of the rule of stopping.
    """

    iterations: int = 520
    rate: float = 4e-4
    low: float = 2e-4
    low_until: int = 300
    cool: int = 80
    every: int = 80
    watched: int = 40
    least: int = 480
    patience: int = 3
    gain: float = 1.0

    def rate_at(self, iteration: int, end: int) -> float:
        """Of an iteration, from 0, of a run that has ``end``."""
        if iteration >= end - self.cool:
            return self.rate / 10
        return self.low if iteration < self.low_until else self.rate

    def is_flat(self, aps: list[float]) -> bool:
        """Whether a run has done enough: of its AP every ``every`` iterations, none of the last
        ``patience`` is more than ``gain`` points above the best before them.

        Never before ``least`` iterations.
        """
        before, recent = aps[: -self.patience], aps[-self.patience :]
        late = len(aps) * self.every >= self.least
        return late and bool(before) and max(recent) <= max(before) + self.gain


MASKS = Schedule()
MATCHING = Schedule(iterations=900, low=4e-4, low_until=0, every=150, least=900)
MATCHING_LONG = changed(MATCHING, iterations=2700, every=300, least=2700)
KEYPOINTS = Schedule(iterations=400, rate=8e-4, low=4e-4, low_until=20, least=320)
QUICK = {"iterations": 450, "low_until": 250, "every": 75, "watched": 20, "least": 450}

# over configs/Demo: fewer detections, which an image of one object, or of four, does not miss
DETECTIONS = 20
PAIRS_DETECTIONS = 30
KEYPOINT_DETECTIONS = 5
KEYPOINT_CONVS = (64,) * 4  # half of the paper's head, for speed; a block after every one

# real photographs
REAL_IMAGES = (16, 12)  # how many, and at most so many objects in each
REAL_SEEDS = [1, 2]
REAL = Schedule(iterations=90, rate=2e-4, low=5e-5, low_until=10, cool=20, every=30, least=999)
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
