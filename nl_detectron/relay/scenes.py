"""Images of a relay data set: the object, and the signal that shows what it is.

Each scene gives an image (height, width, 3) of floats, and its annotations in COCO's format.
"""

from dataclasses import replace

import cv2
import numpy as np

from .drawing import SLIM, STOUT, TEXTURES, noise, outline, paint, texture, turn
from .spec import CLEAR, COLOURS, KEYPOINTS, MARGIN, NEAR, SPLITS, Relay

HEAD_UP, HEAD_DOWN = "red", "blue"  # in the keypoint variant


def draw_image(relay: Relay, split: str, number: int) -> tuple[np.ndarray, list[dict]]:
    """One image: RGB uint8 (height, width, 3), and its annotations in COCO's format.

    Each also has ``signal``, its patch's box (x, y, width, height), and with ``place="any"``
    ``distance``, pixels along x between the centres of object and signal.
    """
    rng = np.random.default_rng([relay.seed, SPLITS.index(split), number])
    scene = draw_pairs if relay.pairs > 1 else draw_long if relay.place == "end" else draw_one
    if split == "train" and relay.beside and rng.random() < relay.beside:
        relay = replace(relay, place="beside", beside=0.0)
    image, annotations = scene(relay, rng)
    return image.clip(0, 255).astype(np.uint8), annotations


def draw_one(relay: Relay, rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """Draw an object in a corner, and its signal in the opposite one or on the way there."""
    colour = rng.choice([HEAD_UP, HEAD_DOWN] if relay.keypoints else list(COLOURS))
    corner = rng.integers(0, 2, size=2)  # of the object: 0 left or top, 1 right or bottom

    size = np.array([relay.width, relay.height])
    image = noise(rng, relay.height, relay.width)
    shape, angle, length = outline(rng, relay.height, STOUT if relay.stout else SLIM)
    reach = np.abs(shape).max(axis=0) + 2
    room = np.array([relay.height, relay.height / 2])  # a square at one end, and its upper half
    centre = rng.uniform(reach, np.maximum(room - reach * [1, 0], reach))
    centre = np.where(corner == 1, size - centre, centre)
    shape = shape + centre
    paint(image, shape, rng.choice([rng.uniform(40, 70), rng.uniform(170, 200)]))

    x, y = np.where(corner == 1, 0, size - relay.signal)
    jitter = rng.integers(0, MARGIN, size=2) * np.where(corner == 1, 1, -1)
    x, y = int(x + jitter[0]), int(y + jitter[1])
    if relay.place == "any":
        x = _on_the_way(relay, rng, shape, bool(corner[0]))
    elif relay.place == "beside":
        x, y = _beside(relay, rng, shape, bool(corner[0]))
    image[y : y + relay.signal, x : x + relay.signal] = COLOURS[colour]
    image += rng.normal(0, 6, size=(relay.height, relay.width, 1))

    ends = _ends(centre, turn(angle), length, colour == HEAD_UP or not relay.keypoints)
    annotation = _annotation(relay, colour, shape, ends, (x, y, relay.signal))
    if relay.place == "any":
        annotation["distance"] = round(abs(x + relay.signal / 2 - float(centre[0])), 1)
    return image, [annotation]


def _on_the_way(relay: Relay, rng: np.random.Generator, shape: np.ndarray, right: bool) -> int:
    """Left edge of a signal anywhere between the object and the image's other end."""
    if right:
        return int(rng.integers(0, int(shape[:, 0].min()) - CLEAR - relay.signal + 1))
    nearest = int(np.ceil(shape[:, 0].max())) + CLEAR
    return int(rng.integers(nearest, relay.width - relay.signal + 1))


def _beside(
    relay: Relay, rng: np.random.Generator, shape: np.ndarray, right: bool
) -> tuple[int, int]:
    """Left and upper edge of a signal next to the object, towards the image's middle."""
    gap, shift = int(rng.integers(0, NEAR)), rng.integers(-CLEAR, CLEAR + 1)
    (left, top), (end, bottom) = shape.min(axis=0), shape.max(axis=0)
    x = int(left) - gap - relay.signal if right else int(np.ceil(end)) + gap
    y = int((top + bottom - relay.signal) / 2 + shift)
    return x, min(max(y, 0), relay.height - relay.signal)


def draw_long(relay: Relay, rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """Draw an object along the image, the signal on its one end, head and tail at the other; or
    the signal next to them, with ``place="beside"``.

    Head and tail are at the same end: with one at each, the features at the signal would show
    whether that end is the head, and a keypoint's softmax over the box would share this with the
    other end.
    """
    colour = rng.choice([HEAD_UP, HEAD_DOWN])
    right = rng.integers(0, 2)  # where head and tail are
    image = noise(rng, relay.height, relay.width)
    length, thick = relay.width * rng.uniform(0.65, 0.75), relay.height * rng.uniform(0.55, 0.65)
    axes = turn(rng.uniform(-0.04, 0.04))
    shape = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [length / 2, thick / 2] @ axes
    reach = np.abs(shape).max(axis=0) + 2
    centre = rng.uniform(reach, np.array([relay.width, relay.height]) - reach)
    shape = shape + centre
    paint(image, shape, rng.choice([rng.uniform(40, 70), rng.uniform(170, 200)]))

    along = axes[0] * (1 if right else -1)
    near, far = (centre + along * (length / 2 - thick / 2) * way for way in (-1, 1))
    if relay.place == "beside":
        near = far - along * (thick + relay.signal) / 2
    x, y = (near - relay.signal / 2).round().astype(int).tolist()
    image[y : y + relay.signal, x : x + relay.signal] = COLOURS[colour]
    image += rng.normal(0, 6, size=(relay.height, relay.width, 1))
    ends = _ends(far, axes, 0.7 * thick, colour == HEAD_UP)
    return image, [_annotation(relay, colour, shape, ends, (x, y, relay.signal))]


def draw_pairs(relay: Relay, rng: np.random.Generator) -> tuple[np.ndarray, list[dict]]:
    """Draw objects at one end and a signal for each at the other, paired by their textures.

    Both are in the cells of a grid of two by two, the signals in any order. The colours are
    independent of each other.
    """
    colours = rng.choice(list(COLOURS), size=relay.pairs)
    textures = rng.permutation(TEXTURES)[: relay.pairs]
    cells = rng.permutation(relay.pairs)  # of the signals
    right = rng.integers(0, 2)  # where the objects are
    image = noise(rng, relay.height, relay.width)
    cell, side = relay.height // 2, relay.signal
    annotations = []
    for number, (colour, name) in enumerate(zip(colours, textures, strict=True)):
        row, column = divmod(number, 2)
        shape, angle, length = outline(rng, cell, STOUT)
        reach = np.abs(shape).max(axis=0) + 2
        centre = rng.uniform(reach, np.maximum(cell - reach, reach))
        centre += [(relay.width - relay.height) * right + column * cell, row * cell]
        shape = shape + centre
        pattern = texture(rng, name, relay.height, relay.width)
        paint(image, shape, 55 + 130 * pattern)

        row, column = divmod(int(cells[number]), 2)  # columns counted from the image's end
        x, y = rng.integers(0, MARGIN, size=2).tolist()
        x, y = x + column * cell, y + row * cell
        x = x if right else relay.width - side - x
        window = np.s_[y : y + side, x : x + side]
        image[window] = np.array(COLOURS[colour]) * (0.4 + 0.6 * pattern[window])
        ends = _ends(centre, turn(angle), length)
        annotations.append(_annotation(relay, colour, shape, ends, (x, y, side)))
    image += rng.normal(0, 6, size=(relay.height, relay.width, 1))
    return image, annotations


def _annotation(
    relay: Relay,
    colour: str,
    shape: np.ndarray,
    ends: list[np.ndarray],
    signal: tuple[int, int, int],
) -> dict:
    low, high = shape.min(axis=0), shape.max(axis=0)
    x, y, side = signal
    return {
        "category_id": 1 if relay.keypoints else list(COLOURS).index(colour) + 1,
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": float(cv2.contourArea(shape.astype(np.float32))),
        "segmentation": [shape.round(2).ravel().tolist()],
        "iscrowd": 0,
        "keypoints": [round(float(v), 2) for end in ends for v in (*(end - 0.5), 2)],
        "num_keypoints": len(KEYPOINTS),
        "signal": [x, y, side, side],
    }


def _ends(
    centre: np.ndarray, axes: np.ndarray, length: float, head_up: bool = True
) -> list[np.ndarray]:
    """Head, centre and tail (x, y) along the second of the axes (2, 2)."""
    up = -axes[1] * length / 2
    return [centre + up, centre, centre - up] if head_up else [centre - up, centre, centre + up]
