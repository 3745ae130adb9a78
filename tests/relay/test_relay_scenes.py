"""Relay images: where object and signal lie, and that the annotations fit the pixels."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO
from relay_variants import (
    ANY,
    DEMOS,
    END,
    IDS,
    TINY,
    VARIANTS,
    drawn,
    ends,
    every_variant,
    polygon,
    read_signal,
    variants,
)

from nl_detectron.relay import RELAY_DATASETS, SPLITS, Relay, draw_image
from nl_detectron.relay.scenes import HEAD_DOWN, HEAD_UP
from nl_detectron.relay.spec import CLEAR, COLOURS, KEYPOINTS, MARGIN, NEAR


def test_no_image_is_repeated_within_or_across_splits_and_seeds():
    images = [
        draw_image(relay, split, i)[0].tobytes()
        for relay in (TINY, replace(TINY, seed=1))
        for split in SPLITS
        for i in range(50)
    ]
    assert len(set(images)) == len(images)


def test_an_image_does_not_depend_on_how_many_there_are():
    more = replace(TINY, train=100, val=100)
    for split in SPLITS:
        np.testing.assert_array_equal(draw_image(TINY, split, 2)[0], draw_image(more, split, 2)[0])


def test_images_stay_those_that_results_were_trained_on():
    _, [annotation] = draw_image(Relay(), "train", 0)
    assert annotation["signal"] == [3, 3, 32, 32] and annotation["category_id"] == 3
    np.testing.assert_allclose(annotation["bbox"], [204.666, 37.928, 58.505, 52.417], atol=1e-3)
    _, [annotation] = draw_image(Relay(keypoints=True), "val", 7)
    assert annotation["signal"] == [253, 2, 32, 32]
    np.testing.assert_allclose(annotation["keypoints"][:2], [80.75, 89.85])


@pytest.mark.slow
@pytest.mark.parametrize("relay", DEMOS, ids=list(RELAY_DATASETS))
def test_only_a_share_of_training_images_has_its_signal_beside_the_object(relay):
    def gap(split, number):
        _, [annotation] = draw_image(relay, split, number)
        x, _, w, _ = annotation["signal"]
        across = polygon(annotation)[:, 0]
        return max(x - across.max(), across.min() - (x + w))

    train, val = ([gap(split, number) for number in range(150)] for split in SPLITS)
    near = [g for g in train if g <= NEAR]
    assert 55 < len(near) < 95 and min(near) > -1
    away = relay.width - relay.height - relay.signal - MARGIN
    assert min(val) >= away and min(g for g in train if g > NEAR) >= away > relay.height


@every_variant
def test_box_and_area_are_those_of_the_outline_and_its_mask(relay):
    coco = COCO()
    for number, (_, annotation) in enumerate(drawn(relay)):
        outline = polygon(annotation)
        x, y, w, h = annotation["bbox"]
        extent = [*outline.min(axis=0), *outline.max(axis=0)]
        np.testing.assert_allclose([x, y, x + w, y + h], extent, atol=0.011)
        assert (outline >= 0).all() and (outline <= (relay.width, relay.height)).all()
        coco.imgs[number] = {"height": relay.height, "width": relay.width}
        mask = coco.annToMask({"image_id": number, **annotation})
        # a mask has whole pixels: half of one off along the outline, at most
        slack = 0.04 * mask.sum() + 0.25 * cv2.arcLength(outline, True)
        assert annotation["area"] == pytest.approx(mask.sum(), abs=slack)


@variants
def test_head_centre_and_tail_are_the_ends_of_the_outline(relay):
    for _, annotation in drawn(relay):
        outline, (head, centre, tail) = polygon(annotation), ends(annotation)
        assert annotation["num_keypoints"] == len(KEYPOINTS)
        assert annotation["keypoints"][2::3] == [2, 2, 2]  # COCO's "visible"
        np.testing.assert_allclose((head + tail) / 2, centre, atol=0.02)
        np.testing.assert_allclose(centre, outline.mean(axis=0), atol=0.02)
        for end in (head, tail):
            assert cv2.pointPolygonTest(outline, end.tolist(), True) == pytest.approx(0, abs=0.05)
            assert (end >= 0).all() and (end <= (relay.width, relay.height)).all()
        assert np.linalg.norm(head - tail) > 0.5 * relay.height


@pytest.mark.parametrize("relay", VARIANTS[:2], ids=IDS[:2])  # a tiny object drowns in the noise
def test_the_drawn_object_lies_where_its_polygon_says(relay):
    shifts = [(dx, dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1)]
    agreement = {shift: [] for shift in shifts}
    coco = COCO()
    for number, (pixels, annotation) in enumerate(drawn(relay)):
        coco.imgs[number] = {"height": relay.height, "width": relay.width}
        mask = coco.annToMask({"image_id": number, **annotation}).astype(bool)
        x, y, w, h = np.round(annotation["bbox"]).astype(int)
        window = np.s_[max(y - 3, 1) : y + h + 3, max(x - 3, 1) : x + w + 3]
        grey = cv2.medianBlur(pixels[..., 0], 3).astype(float)
        edge = (np.median(grey[mask]) + 120) / 2  # half-way to the background
        bright = grey > edge if edge > 120 else grey < edge
        for shift in shifts:
            moved = np.roll(mask, shift, axis=(1, 0))
            both, either = (moved & bright)[window].sum(), (moved | bright)[window].sum()
            agreement[shift].append(both / either)
    means = {shift: np.mean(values) for shift, values in agreement.items()}
    assert max(means, key=means.get) == (0, 0)
    assert means[0, 0] > 0.85


@every_variant
def test_the_signal_shows_class_or_head(relay):
    colours = set()
    for pixels, annotation in drawn(relay):
        colour, _ = read_signal(pixels, annotation)
        if relay.keypoints:
            head, _, tail = ends(annotation)
            assert annotation["category_id"] == 1
            assert colour == (HEAD_UP if head[1] < tail[1] else HEAD_DOWN)
        else:
            assert annotation["category_id"] == list(COLOURS).index(colour) + 1
        colours.add(colour)
    assert colours == ({HEAD_UP, HEAD_DOWN} if relay.keypoints else set(COLOURS))


@variants
def test_the_signal_lies_in_the_opposite_corner(relay):
    corners = set()
    for pixels, annotation in drawn(relay):
        x, y, w, h = annotation["signal"]
        assert (w, h) == (relay.signal, relay.signal)
        assert 0 <= min(x, y) and x + w <= relay.width and y + h <= relay.height
        colour, patch = read_signal(pixels, annotation)
        np.testing.assert_allclose(patch.reshape(-1, 3).mean(axis=0), COLOURS[colour], atol=4)

        low, high = polygon(annotation).min(axis=0), polygon(annotation).max(axis=0)
        right, below = (low + high) / 2 > np.array([relay.width, relay.height]) / 2
        assert (x + w / 2 > relay.width / 2, y + h / 2 > relay.height / 2) == (
            not right,
            not below,
        )
        # a whole image's height less the signal away, so that no box has a coloured pixel
        away = x - high[0] if x > high[0] else low[0] - (x + w)
        assert away >= relay.width - relay.height - relay.signal - MARGIN
        corners.add((bool(right), bool(below)))
    assert len(corners) == 4


@pytest.mark.parametrize(("stout", "low", "high"), [(False, 0.3, 0.45), (True, 0.6, 0.8)])
def test_a_stout_object_is_wider_for_its_length(stout, low, high):
    shapes = []
    for _, annotation in drawn(Relay(stout=stout)):
        length, width = max(size := cv2.minAreaRect(polygon(annotation))[1]), min(size)
        shapes.append(width / length)
    assert low - 0.02 < np.percentile(shapes, 5) and np.percentile(shapes, 95) < high + 0.1


@pytest.mark.slow
def test_a_signal_at_any_place_is_clear_of_the_object_and_at_every_distance():
    distances = []
    for _, annotation in drawn(ANY, 400):
        x, _, w, _ = annotation["signal"]
        low, high = polygon(annotation)[:, 0].min(), polygon(annotation)[:, 0].max()
        assert max(x - high, low - (x + w)) >= CLEAR - 1  # the box's crop has a margin of 6
        assert 0 <= x <= ANY.width - w
        centre = ends(annotation)[1][0]
        assert annotation["distance"] == pytest.approx(abs(x + w / 2 - centre), abs=0.06)
        distances.append(annotation["distance"])
    counts = np.histogram(distances, bins=5, range=(60, 310))[0]
    assert counts.min() > 0.7 * counts.mean()


def test_on_a_long_object_the_signal_is_at_one_end_and_head_and_tail_at_the_other():
    sides = set()
    for _, annotation in drawn(END):
        shape, points = polygon(annotation), ends(annotation)
        x, y, w, h = annotation["signal"]
        for corner in ((x, y), (x + w, y), (x, y + h), (x + w, y + h)):
            assert cv2.pointPolygonTest(shape, np.float32(corner).tolist(), True) > 0
        for point in points:
            assert cv2.pointPolygonTest(shape, point.tolist(), True) > 2
        length = shape[:, 0].max() - shape[:, 0].min()
        assert length > 0.64 * END.width
        away = points[:, 0] - (x + w / 2)
        assert (abs(away) > 0.6 * length).all() and len(set(np.sign(away))) == 1
        assert abs(points[0, 1] - points[2, 1]) > 0.35 * END.height
        sides.add(np.sign(away[0]))
    assert len(sides) == 2
