"""Nothing near the object shows what the signal shows: a classifier of its crop is at chance.

Each view goes through the same classifier; on the signal's crop it succeeds.
"""

import itertools
from functools import cache

import cv2
import numpy as np
import pytest

from nl_detectron.relay import RELAY_DATASETS, Relay, draw_image
from nl_detectron.relay.spec import COLOURS

pytestmark = pytest.mark.slow
RELAYS = {
    "classes": Relay(),
    "keypoints": Relay(keypoints=True),
    "demo": RELAY_DATASETS["relay"],
    "keypoint demo": RELAY_DATASETS["relay_keypoints"],
    "any place": Relay(place="any", width=384, height=64, signal=24),
    "end": Relay(place="end", keypoints=True, width=256, height=64, signal=24),
    "two pairs": Relay(pairs=2, width=256),
    "four pairs": Relay(pairs=4, width=256, signal=27),
}
CORNERS = ("classes", "keypoints")
PAIRS = ("two pairs", "four pairs")
TRAIN, HELD_OUT = 600, 300
MARGIN = 6  # pixels around the object's box

variants = pytest.mark.parametrize("variant", RELAYS)


@cache
def draw(variant):
    """Images, and the list of annotations of each, first TRAIN then HELD_OUT."""
    numbers = [("train", i) for i in range(TRAIN)] + [("val", i) for i in range(HELD_OUT)]
    drawn = (draw_image(RELAYS[variant], *number) for number in numbers)
    return tuple(zip(*drawn, strict=True))


@cache
def samples(variant):
    """Images, an annotation each and the labels to predict, first TRAIN then HELD_OUT."""
    relay = RELAYS[variant]
    images, lists = draw(variant)
    annotations = [found[i % relay.pairs] for i, found in enumerate(lists)]
    if relay.keypoints:
        labels = [a["keypoints"][1] < a["keypoints"][7] for a in annotations]  # the head is up
    else:
        labels = [a["category_id"] - 1 for a in annotations]
    return images, annotations, np.array(labels, dtype=int)


def crop(image, box, margin):
    """The pixels of a box and its margin, resized to (16, 16, 3)."""
    x, y, w, h = box
    top, left = max(int(y) - margin, 0), max(int(x) - margin, 0)
    window = image[top : int(np.ceil(y + h)) + margin, left : int(np.ceil(x + w)) + margin]
    return cv2.resize(window.astype(np.float32), (16, 16), interpolation=cv2.INTER_AREA)


def own_box(annotation):
    """The object's box, up to the signal where that is painted on the object."""
    x, y, w, h = annotation["bbox"]
    left, _, side, _ = annotation["signal"]
    if x + w < left or left + side < x:
        return x, y, w, h
    if left - x < w / 2:  # the signal is on its left end
        beyond = left + side + MARGIN + 1
        return beyond, y, x + w - beyond, h
    return x, y, left - MARGIN - 1 - x, h


def view(name, image, annotation):
    """What a classifier is shown."""
    if name == "signal":
        return crop(image, annotation["signal"], 0).ravel()
    if name == "image's colours":
        return image.reshape(-1, 3).mean(axis=0)
    if name == "object":
        return crop(image, own_box(annotation), MARGIN).ravel()
    if name == "object's brightness":  # its distribution, wherever in the crop
        return np.sort(crop(image, own_box(annotation), MARGIN).reshape(-1, 3), axis=0).ravel()
    # where it lies and how large it is, with squares and products; which end is the head, left out
    centre = annotation["keypoints"][3:5]
    place = np.array([*annotation["bbox"], *centre, annotation["area"] ** 0.5, 96.0]) / 96
    return np.outer(place, place)[np.triu_indices(len(place))]


def accuracy(features, labels):
    """Of ridge regression onto one-hot answers, on the held-out part."""
    train, test = features[:TRAIN], features[TRAIN:]
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-6
    train, test = (train - mean) / std, (test - mean) / std
    answers = np.eye(labels.max() + 1)[labels[:TRAIN]]
    kernel = train @ train.T / train.shape[1]
    weights = np.linalg.solve(kernel + 0.1 * np.eye(TRAIN), answers - answers.mean(axis=0))
    scores = test @ train.T / train.shape[1] @ weights + answers.mean(axis=0)
    return (scores.argmax(axis=1) == labels[TRAIN:]).mean()


def accuracy_from(name, variant):
    images, annotations, labels = samples(variant)
    features = [view(name, *pair) for pair in zip(images, annotations, strict=True)]
    return accuracy(np.array(features, dtype=float), labels)


@variants
@pytest.mark.parametrize("name", ["object", "object's brightness", "object's place and size"])
def test_the_object_alone_does_not_show_its_class(name, variant):
    chance = 1 / (2 if RELAYS[variant].keypoints else len(COLOURS))
    error = np.sqrt(chance * (1 - chance) / HELD_OUT)
    assert accuracy_from(name, variant) == pytest.approx(chance, abs=3 * error)


@variants
def test_the_signal_shows_the_class(variant):
    assert accuracy_from("signal", variant) > 0.95


@variants
def test_a_faint_leak_would_be_found(variant):
    images, annotations, labels = samples(variant)
    features = np.array(
        [view("object", *pair) for pair in zip(images, annotations, strict=True)], dtype=float
    )
    features[:, 1::3] += 4.0 * labels[:, None]  # four grey levels of 255, in the green channel
    chance = 1 / (labels.max() + 1)
    assert accuracy(features, labels) > chance + 0.2


@variants
def test_everything_but_the_signals_is_grey(variant):
    for image, annotations in itertools.islice(zip(*draw(variant), strict=True), 100):
        image = image.copy()
        for x, y, w, h in (a["signal"] for a in annotations):
            image[y : y + h, x : x + w] = 0
        assert (image == image[..., :1]).all()


@variants
def test_answers_are_even_and_independent_of_the_corner(variant):
    _, annotations, labels = samples(variant)
    n = labels.max() + 1
    relay = RELAYS[variant]
    middle = (np.array([relay.width, relay.height]) - relay.signal) / 2
    left, upper = np.array([np.array(a["signal"][:2]) < middle for a in annotations]).T
    corner = 2 * left + upper if variant in CORNERS else left  # or the end
    places = len(set(corner))
    expected = len(labels) / (places * n)
    counts = np.array(
        [((corner == c) & (labels == t)).sum() for c in set(corner) for t in range(n)]
    )
    assert places == (4 if variant in CORNERS else 2)
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()


@pytest.mark.parametrize("variant", PAIRS)
def test_the_colours_of_pairs_alone_do_not_show_the_class_of_each(variant):
    """The best guess is the image's most frequent colour."""
    pairs = RELAYS[variant].pairs
    answers = itertools.product(COLOURS, repeat=pairs)
    best = np.mean([max(map(found.count, COLOURS)) / pairs for found in answers])
    error = np.sqrt(best * (1 - best) / HELD_OUT)
    assert accuracy_from("image's colours", variant) < best + 3 * error


def texture_of(patch, dark, light):
    """How light it is, 0 to 1 between the two, and how uneven: in all, its rows, its columns."""
    scaled = (patch.max(axis=2).astype(float) - dark) / (light - dark)
    uneven = [scaled.std(), scaled.mean(axis=1).std(), scaled.mean(axis=0).std()]
    return np.array([scaled.mean(), *(2 * u for u in uneven)])


@pytest.mark.parametrize("variant", PAIRS)
def test_the_texture_of_pairs_shows_which_signal_belongs_to_an_object(variant):
    right = []
    for image, annotations in itertools.islice(zip(*draw(variant), strict=True), 100):
        patches = []
        for x, y, w, h in (a["signal"] for a in annotations):
            patches.append(texture_of(image[y : y + h, x : x + w], 0.4 * 255, 255))
        for own, annotation in enumerate(annotations):
            x, y, w, h = annotation["bbox"]
            inner = image[int(y + h / 4) : int(y + 3 * h / 4), int(x + w / 4) : int(x + 3 * w / 4)]
            differences = np.array(patches) - texture_of(inner, 61, 178)  # a tenth is noise
            right.append(np.abs(differences).sum(axis=1).argmin() == own)
    assert np.mean(right) > 0.95
