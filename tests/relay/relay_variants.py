"""Relay data sets of every kind, and readers of their annotations."""

from dataclasses import replace

import numpy as np
import pytest

from nl_detectron.relay import RELAY_DATASETS, SPLITS, Relay, draw_image
from nl_detectron.relay.spec import COLOURS

TINY = Relay(train=6, val=3, height=64, width=128, signal=9)
VARIANTS = [Relay(), Relay(keypoints=True), TINY, replace(TINY, keypoints=True)]
IDS = ["classes", "keypoints", "tiny classes", "tiny keypoints"]
ANY = Relay(place="any", width=384, height=64, signal=24)
END = Relay(place="end", keypoints=True, width=256, height=64, signal=24)
PAIRS = {n: Relay(pairs=n, width=256, signal=27) for n in (2, 4)}
DEMOS = list(RELAY_DATASETS.values())
MORE = [ANY, replace(ANY, keypoints=True), END, replace(END, beside=0.5), *DEMOS, *PAIRS.values()]
MORE_IDS = ["any place", "any place keypoints", "end", "end or beside", *RELAY_DATASETS]
MORE_IDS += ["two pairs", "four pairs"]
variants = pytest.mark.parametrize("relay", VARIANTS, ids=IDS)
every_variant = pytest.mark.parametrize("relay", VARIANTS + MORE, ids=IDS + MORE_IDS)


def polygon(annotation):
    return np.array(annotation["segmentation"][0], dtype=np.float32).reshape(-1, 2)


def ends(annotation):
    """Head, centre and tail (3, 2), in the polygon's coordinates: COCO's keypoints are indices."""
    return np.array(annotation["keypoints"]).reshape(3, 3)[:, :2] + 0.5


def pictures(relay, number=40):
    return [draw_image(relay, split, i) for split in SPLITS for i in range(number // 2)]


def drawn(relay, number=40):
    """Images and annotations, one of each: an image of several objects comes several times."""
    return [(pixels, a) for pixels, annotations in pictures(relay, number) for a in annotations]


def read_signal(pixels, annotation):
    """The colour of the signal, and the patch (h, w, 3)."""
    x, y, w, h = annotation["signal"]
    patch = pixels[y : y + h, x : x + w]
    seen = patch.reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: np.abs(seen - COLOURS[name]).sum()), patch
