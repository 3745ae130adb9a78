"""The runs of the video demo's evidence: models, seeds, threads, and what decides a result.

A model's name is that of a config in configs/Demo, or ``CONFIG-KEY-VALUE`` with one key of
MODEL.NONLOCAL changed.
"""

import json
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from detectron2.config import CfgNode

from nl_detectron.engine import load_config
from nl_detectron.layers import AXES, PAIRWISE
from nl_detectron.video_relay import SPLITS, VIDEO_RELAY, VideoRelay, draw_clip

from .evidence.runs import DEFAULTS, non_default
from .seed_runs import Record

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs/Demo"
RECORD = ROOT / "docs/relay_video.json"
OUTPUT = Path("output/video_seeds")
SEEDS, FEW = range(101, 111), range(101, 104)
TUNING = range(1, 4)  # seeds for choosing settings; no page shows them
THREADS = (1, 2)  # of the demo's block; all other runs have one
LEARNED = 90.0  # top-1 accuracy in percent with which a run counts as learned

C2D, I3D = "relay_video_c2d", "relay_video_i3d"
BLOCK = f"{C2D}_nl"


class Job(NamedTuple):
    """A run: a model, a seed and a number of threads."""

    name: str
    seed: int
    threads: int

    @property
    def folder(self) -> Path:
        return OUTPUT / f"{self.name}-{self.threads}-seed{self.seed}"

    def config(self) -> CfgNode:
        config, *changes = self.name.split("-")
        opts = ["MODEL.DEVICE", "cpu", "SEED", str(self.seed), "OUTPUT_DIR", str(self.folder)]
        if changes:
            key, value = changes
            opts += [f"MODEL.NONLOCAL.{key}", value]
        return load_config(str(CONFIGS / f"{config}.yaml"), opts)


def _variants(key: str, values: Iterable[str], own: str) -> dict[str, str]:
    """Names of the models with one block by a key's value; with the config's own it is the demo."""
    return {value: BLOCK if value == own else f"{BLOCK}-{key}-{value}" for value in values}


# names of models by group and by the label of their row
GROUPS: dict[str, dict[str, str]] = {
    "demo": {"C2D": C2D, "C2D + 1 block": BLOCK},
    "arch": {
        "C2D": C2D,
        "C2D + 1 block": BLOCK,
        "I3D": I3D,
        "I3D + 1 block": f"{I3D}_nl",
    },
    "axes": _variants("AXES", AXES, "spacetime"),
    "forms": _variants("PAIRWISE", PAIRWISE, "embedded_gaussian"),
}


def jobs(groups: Iterable[str] = GROUPS) -> list[Job]:
    """The runs of some groups, each once, those with one thread first."""
    wanted: dict[Job, None] = {}
    for group in groups:
        if group == "demo":
            wanted |= {Job(BLOCK, seed, threads): None for threads in THREADS for seed in SEEDS}
        wanted |= {Job(name, seed, 1): None for seed in FEW for name in GROUPS[group].values()}
    return sorted(wanted, key=lambda job: job.threads)


def record() -> Record:
    """The results that the page shows."""
    return Record(RECORD, jobs(), recipe)


def tuning_record() -> Record:
    """The results of the tuning seeds."""
    return Record(OUTPUT / "tuning.json", [Job(BLOCK, seed, 1) for seed in TUNING], recipe)


def videos_of(cfg: CfgNode) -> VideoRelay:
    """The videos that a config trains on."""
    return VIDEO_RELAY[cfg.DATASETS.TRAIN[0].removesuffix("_train")]


@cache
def recipe(name: str) -> str:
    """Hash of what decides a model's results, besides seed and threads."""
    cfg = Job(name, 0, 1).config().clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = ""
    parts = [non_default(cfg, DEFAULTS), fingerprint(videos_of(cfg))]
    return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def fingerprint(relay: VideoRelay) -> str:
    """Hash of the first videos of both splits and of the numbers of videos and frames."""
    digest = sha256(f"{relay.train} {relay.val} {relay.hold}".encode())
    for split in SPLITS:
        for number in range(min(8, getattr(relay, split))):
            clip = draw_clip(relay, split, number)
            digest.update(clip.frames.tobytes() + str(clip.label).encode())
    return digest.hexdigest()[:16]
