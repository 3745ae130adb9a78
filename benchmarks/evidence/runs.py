"""The runs and tables of the evidence: models, images and seeds.

A run has overrides of a config in configs/Demo, a relay data set and a schedule. With a seed these
decide the result, and their hash is its key.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from dataclasses import replace as changed
from functools import cache
from hashlib import sha256
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from nl_detectron.config import add_nonlocal_config
from nl_detectron.engine import load_config
from nl_detectron.layers import PAIRWISE
from nl_detectron.relay import SPLITS, Relay, draw_image, register_split

from . import models  # noqa: F401  (registers its backbones)
from . import settings as s

ROOT = Path(__file__).parents[2]
OUTPUT = Path("output/evidence")
ONE_BLOCK = ("res4.-2",)
DEFAULTS = get_cfg()
add_nonlocal_config(DEFAULTS)


@dataclass(frozen=True)
class Run:
    """A row of a table, for any seed.

    Args:
        name: name of the run and of its result files.
        opts: ``KEY VALUE`` overrides of the base config.
        data: images for training and evaluation.
        schedule: the schedule of learning rates.
        start: name of the run whose trained weights this one starts from.
        anew: whether blocks start as identities instead of with the weights of ``start``.
        bands: edges of bands of distances for which AP is computed, in pixels.
    """

    name: str
    opts: tuple[str, ...] = ()
    data: Relay = s.FAR
    schedule: s.Schedule = s.MASKS
    start: str = ""
    anew: bool = False
    bands: tuple[int, ...] = ()

    @property
    def watched(self) -> Relay:
        """The data set whose validation images are evaluated during training, for the curves."""
        return changed(self.data, seed=self.data.seed + 1, train=0, val=self.schedule.watched)

    def config(self, seed: int, output: Path = OUTPUT) -> CfgNode:
        """Load the config for a seed, and register its data sets."""
        base = "relay_keypoint_rcnn" if self.data.keypoints else "relay_mask_rcnn"
        side = str(self.data.height)
        opts = ["MODEL.DEVICE", "cpu", "SEED", str(seed)]
        most = s.KEYPOINT_DETECTIONS if self.data.keypoints else s.DETECTIONS
        opts += ["TEST.DETECTIONS_PER_IMAGE", str(most)]
        opts += ["INPUT.MIN_SIZE_TRAIN", f"({side},)", "INPUT.MIN_SIZE_TEST", side]
        opts += ["DATASETS.TRAIN", f"('{register(self.data, 'train')}',)"]
        opts += ["DATASETS.TEST", f"('{register(self.data, 'val')}',)"]
        if self.data.keypoints:
            opts += ["MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", str(s.KEYPOINT_CONVS)]
        opts += ["OUTPUT_DIR", str(output / "runs" / f"{self.name}-seed{seed}"), *self.opts]
        return load_config(str(ROOT / f"configs/Demo/{base}.yaml"), opts)

    @cache  # noqa: B019  (there are only as many runs as in RUNS)
    def key(self, seed: int) -> str:
        """Hash of everything that decides the result, also the key of the run it starts from."""
        cfg = self.config(seed).clone()
        cfg.defrost()
        cfg.OUTPUT_DIR, cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = "", (), ()  # these are only names
        images = [fingerprint(self.data), fingerprint(self.watched)]
        parts = [non_default(cfg, DEFAULTS), asdict(self.schedule), images, self.bands]
        parts += [RUNS[self.start].key(seed)] if self.start else []
        parts += ["anew"] if self.anew else []
        return sha256(json.dumps(parts).encode()).hexdigest()[:16]


def non_default(node: CfgNode, default: CfgNode) -> dict:
    """The values of a config that differ from the defaults. New config keys do not change them."""
    other = {key: value for key, value in node.items() if value != default[key]}
    nodes = {key: value for key, value in other.items() if isinstance(value, CfgNode)}
    return other | {key: non_default(value, default[key]) for key, value in nodes.items()}


def register(data: Relay, split: str) -> str:
    """Register a data set with Detectron2 and return its name."""
    name = f"evidence_{sha256(json.dumps(asdict(data)).encode()).hexdigest()[:8]}_{split}"
    register_split(name, data, split)
    return name


@cache
def fingerprint(data: Relay) -> str:
    """Hash of the first images of both splits and of the numbers of images.

    It depends on the generated images, not on the generator's code or the names of its settings.
    """
    digest = sha256(f"{data.train} {data.val}".encode())
    for split in SPLITS:
        for number in range(8 if getattr(data, split) else 0):  # 8 contain both kinds of images
            image, annotations = draw_image(data, split, number)
            digest.update(image.tobytes() + json.dumps(annotations).encode())
    return digest.hexdigest()[:16]


def nonlocal_(after: Iterable[str] = ONE_BLOCK, build: str = "nonlocal", **keys) -> tuple[str, ...]:
    """Overrides that place blocks in the backbone; ``keys`` are those of MODEL.NONLOCAL."""
    opts = ["MODEL.BACKBONE.NAME", f"build_{build}_resnet_fpn_backbone"]
    opts += ["MODEL.NONLOCAL.BACKBONE.AFTER", str(list(after))]
    for key, value in keys.items():
        opts += [f"MODEL.NONLOCAL.{key}", str(value)]
    return tuple(opts)


FORMS = tuple(PAIRWISE)
TWINS = ("baseline", "control", "embedded_gaussian")
OTHERS = tuple(form for form in FORMS if form not in TWINS)
# Four blocks that start together learned on tuning seeds 1 to 3 with theta and phi at the full
# rate, and on one of them at a tenth of it.
HEAD = (
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[1, 2, 3, 4]"),
    *("SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR", "1.0"),
)
PLACES = {
    "res2": ("res2.-2",),
    "res3": ("res3.-2",),
    "res5": ("res5.-2",),
    "5_blocks": ("res3.1", "res3.3", "res4.1", "res4.3", "res4.5"),
    "10_blocks": ("res3.*", "res4.*"),
}
CHOICES = {
    "subsample_after": {"SUBSAMPLE": "after"},
    "subsample_none": {"SUBSAMPLE": "none"},
    "no_scale": {"USE_SCALE": False},
    "norm_BN": {"NORM": "BN"},
    "norm_GN": {"NORM": "GN"},
    "init_he": {"build": "he_nonlocal"},
}
# Learning rates of the block, relative to the model's. The default is 1, and 0.1 for theta and phi.
RATES = {
    "pairwise_rate_1": ("SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR", "1.0"),
    "block_rate_3": ("SOLVER.NONLOCAL_LR_FACTOR", "3.0"),
}


def _runs() -> Iterator[Run]:
    yield Run("baseline")
    yield Run("control", ("MODEL.BACKBONE.NAME", "build_control_resnet_fpn_backbone"))
    forms = {form: nonlocal_(PAIRWISE=form) for form in FORMS}
    for form, opts in forms.items():
        yield Run(form, opts)
    for name, after in PLACES.items():
        yield Run(name, nonlocal_(after))
    for name, keys in CHOICES.items():
        yield Run(name, nonlocal_(**keys))
    for name, rate in RATES.items():
        yield Run(name, (*nonlocal_(), *rate))
    yield Run("no_warmup", nonlocal_(), schedule=changed(s.MASKS, warmup=0))
    # A keypoint model with a block in its backbone starts from the mask model that also has one.
    for place, data in (("far", s.KEYPOINTS_FAR), ("end", s.KEYPOINTS_END)):
        for name, start, opts in (
            ("baseline", "baseline", ()),
            ("head", "baseline", HEAD),
            ("backbone", "embedded_gaussian", nonlocal_()),
            ("both", "embedded_gaussian", (*nonlocal_(), *HEAD)),
        ):
            yield Run(f"keypoints_{place}_{name}", opts, data, s.KEYPOINTS, start)
    for name, opts in (("baseline", ()), ("embedded_gaussian", forms["embedded_gaussian"])):
        yield Run(f"distance_{name}", opts, s.ANY, bands=s.BANDS)
    for name in ("baseline", *FORMS):
        opts = (*s.PAIRS_OPTS, *forms.get(name, ()))
        yield Run(f"pairs_{name}", opts, s.PAIRS, s.MATCHING, name, anew=True)


RUNS = {run.name: run for run in _runs()}


def _rows(rows: Iterable[str] | dict[str, str], seeds: tuple[int, ...], prefix: str = "") -> dict:
    """Rows of a table. ``rows`` are names of runs, which are also the labels, or names by label."""
    named = rows if isinstance(rows, dict) else {name: name for name in rows}
    return {label: (prefix + name, seeds) for label, name in named.items()}


HEADS = {
    "baseline": "baseline",
    "+4 in head": "head",
    "+1 in backbone": "backbone",
    "+4 in head, +1 in backbone": "both",
}
STAGES = {"res2": "res2", "res3": "res3", "res4": "embedded_gaussian", "res5": "res5"}
COUNTS = {"1": "embedded_gaussian", "5": "5_blocks", "10": "10_blocks"}
DEFAULT = {"before, scale, no norm, 0.01, rate 1, of theta and phi 0.1": "embedded_gaussian"}
# rows by the table's letter and the row's label: name of the run, and seeds
TABLES: dict[str, dict[str, tuple[str, tuple[int, ...]]]] = {
    "A": {**_rows(TWINS, s.TEN), **_rows(OTHERS, s.FIVE)},
    "B": _rows(STAGES, s.THREE),
    "C": _rows(COUNTS, s.THREE),
    "D": {
        **_rows(DEFAULT, s.TEN),
        **_rows(("pairwise_rate_1", "block_rate_3", "no_warmup"), s.FIVE),
        **_rows(tuple(CHOICES), s.THREE),
    },
    "E-far": _rows(HEADS, s.TEN, "keypoints_far_"),
    "E-end": _rows(HEADS, s.TEN, "keypoints_end_"),
    "F": _rows(("baseline", "embedded_gaussian"), s.THREE, "distance_"),
    "H": _rows(("baseline", *FORMS), s.THREE, "pairs_"),
}


def jobs(tables: Iterable[str] = TABLES) -> list[tuple[str, int]]:
    """Runs and seeds of tables, each once, and each after the run that it starts from."""
    ordered: dict[tuple[str, int], None] = {}
    for letter in tables:
        rows = TABLES[letter].values()
        for seed in sorted({seed for _, seeds in rows for seed in seeds}):
            for name, seeds in rows:
                if seed in seeds:
                    if RUNS[name].start:
                        ordered[RUNS[name].start, seed] = None
                    ordered[name, seed] = None
    return list(ordered)


def quick(run: Run) -> Run:
    """A shorter version of a run, for a first impression."""
    schedule = changed(run.schedule, **s.QUICK)
    return changed(run, schedule=schedule, data=changed(run.data, val=60))
