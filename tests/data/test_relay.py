"""The relay data set's files: seeded, whole, COCO's own format, and true to what is drawn."""

import itertools
import json
import math
import threading
import time
from dataclasses import replace

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from PIL import Image
from pycocotools.coco import COCO

from nl_detectron.data import RELAY_DATASETS, Relay
from nl_detectron.data.relay import SPLITS, register_split
from nl_detectron.data.scenes import CLEAR, COLOURS, HEAD_DOWN, HEAD_UP, KEYPOINTS, MARGIN, NEAR

TINY = Relay(train=6, val=3, height=64, width=128, signal=9)
VARIANTS = [Relay(), Relay(keypoints=True), TINY, replace(TINY, keypoints=True)]
IDS = ["classes", "keypoints", "tiny classes", "tiny keypoints"]
ANY = Relay(place="any", width=384, height=64, signal=24)
END = Relay(place="end", keypoints=True, width=256, height=64, signal=24)
PAIRS = {n: Relay(pairs=n, width=256, signal=27) for n in (2, 4)}
DEMOS = list(RELAY_DATASETS.values())
MORE = [ANY, replace(ANY, keypoints=True), END, *DEMOS, *PAIRS.values()]
MORE_IDS = ["any place", "any place keypoints", "end", *RELAY_DATASETS, "two pairs", "four pairs"]
variants = pytest.mark.parametrize("relay", VARIANTS, ids=IDS)
every_variant = pytest.mark.parametrize("relay", VARIANTS + MORE, ids=IDS + MORE_IDS)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def polygon(annotation):
    return np.array(annotation["segmentation"][0], dtype=np.float32).reshape(-1, 2)


def ends(annotation):
    """Head, centre and tail (3, 2), in the polygon's coordinates: COCO's keypoints are indices."""
    return np.array(annotation["keypoints"]).reshape(3, 3)[:, :2] + 0.5


def pictures(relay, number=40):
    return [relay.draw(split, i) for split in SPLITS for i in range(number // 2)]


def drawn(relay, number=40):
    """Images and annotations, one of each: an image of several objects comes several times."""
    return [(pixels, a) for pixels, annotations in pictures(relay, number) for a in annotations]


def told_by(pixels, annotation):
    """The colour of the signal, and the patch (h, w, 3)."""
    x, y, w, h = annotation["signal"]
    patch = pixels[y : y + h, x : x + w]
    seen = patch.reshape(-1, 3).mean(axis=0)
    return min(COLOURS, key=lambda name: np.abs(seen - COLOURS[name]).sum()), patch


# --- seeds and folders -----------------------------------------------------------------------


def test_equal_settings_write_equal_bytes(monkeypatch, tmp_path):
    first = contents(TINY.write())
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "elsewhere"))
    again = contents(replace(TINY).write())
    assert len(first) == TINY.train + TINY.val + 2
    assert again == first


def test_no_image_comes_twice_within_or_across_splits_and_seeds():
    images = [
        relay.draw(split, i)[0].tobytes()
        for relay in (TINY, replace(TINY, seed=1))
        for split in SPLITS
        for i in range(50)
    ]
    assert len(set(images)) == len(images)


def test_an_image_does_not_depend_on_how_many_there_are():
    more = replace(TINY, train=100, val=100)
    for split in SPLITS:
        np.testing.assert_array_equal(TINY.draw(split, 2)[0], more.draw(split, 2)[0])


@pytest.mark.parametrize(
    "change",
    [
        {"keypoints": True},
        {"height": 65},
        {"width": 130},
        {"signal": 10},
        {"place": "any"},
        {"beside": 0.5},
        {"place": "beside"},
        {"stout": True},
        {"train": 7},
        {"val": 4},
        {"seed": 1},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_settings_have_another_folder(change):
    assert replace(TINY, **change).folder() != TINY.folder()


def test_the_cache_folder_is_the_environments(cache, monkeypatch, tmp_path):
    assert TINY.folder().parent == cache
    monkeypatch.delenv("NL_DETECTRON_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TINY.folder().parent == tmp_path / ".cache" / "nl_detectron"


def test_a_folder_that_stands_is_not_written_again(monkeypatch):
    folder = TINY.write()
    monkeypatch.setattr(Relay, "draw", None)
    assert TINY.write() == folder


@pytest.fixture
def crash(monkeypatch):
    """A write that dies in the middle of the second split."""
    draw = Relay.draw

    def dying(self, split, number):
        if (split, number) == ("val", 1):
            raise KeyboardInterrupt
        return draw(self, split, number)

    with monkeypatch.context() as patch:
        patch.setattr(Relay, "draw", dying)
        with pytest.raises(KeyboardInterrupt):
            TINY.write()


def test_a_half_written_folder_is_never_taken_for_whole(crash):
    assert not TINY.folder().exists()
    assert len(contents(TINY.write())) == TINY.train + TINY.val + 2


def test_a_crash_leaves_nothing_behind_but_the_lock(crash, cache):
    assert list(cache.iterdir()) == [TINY.folder().with_suffix(".lock")]


def test_of_two_writers_one_draws_and_the_other_waits(monkeypatch):
    draw, drawn, started = Relay.draw, [], threading.Event()

    def slow(self, split, number):
        drawn.append((split, number))
        started.set()
        time.sleep(0.02)
        return draw(self, split, number)

    monkeypatch.setattr(Relay, "draw", slow)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(TINY.write())) for _ in range(2)]
    threads[0].start()
    assert started.wait(timeout=30)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert folders == [TINY.folder()] * 2
    assert len(drawn) == TINY.train + TINY.val
    assert len(contents(TINY.folder())) == TINY.train + TINY.val + 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 31}, "height of 32 or more"),
        ({"signal": 0}, "signal of 1"),
        ({"signal": 60}, "signal of 1 to the height less"),
        ({"width": 77}, "width of 78 or more"),
        ({"place": "any", "width": 80}, "width of 81 or more"),
        ({"place": "near"}, "expected one of"),
        ({"beside": 1.5}, "share from 0 to 1"),
        ({"beside": 0.5, "width": 84}, "width of 85 or more"),
        ({"place": "beside", "width": 84}, "width of 85 or more"),
        ({"beside": 0.5, "place": "end", "keypoints": True}, "share from 0 to 1"),
        ({"place": "end"}, "with keypoints=True"),
        ({"place": "end", "keypoints": True, "signal": 26}, "signal of at most 25"),
        ({"pairs": 5}, "1 to 4 pairs"),
        ({"pairs": 2, "place": "any"}, "several pairs go with"),
        ({"pairs": 2, "beside": 0.5}, "several pairs go with"),
        ({"pairs": 2, "keypoints": True}, "several pairs go with"),
        ({"pairs": 3, "height": 63}, "height of 64 or more"),
        ({"pairs": 2, "signal": 28}, "signal of at most 27"),
        ({"pairs": 4, "width": 127}, "width of 128 or more"),
    ],
    ids=str,
)
def test_settings_that_leave_no_room_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


# --- COCO's format ---------------------------------------------------------------------------


@pytest.mark.parametrize("keypoints", [False, True])
def test_coco_and_detectron2_read_what_is_written(keypoints, capsys):
    relay = replace(TINY, keypoints=keypoints)
    folder = relay.write()
    for split, number in (("train", relay.train), ("val", relay.val)):
        coco = COCO(str(folder / f"{split}.json"))
        assert len(coco.imgs) == len(coco.anns) == number
        categories = coco.loadCats(coco.getCatIds())
        assert [(c["id"], c["name"]) for c in categories] == list(enumerate(relay.classes, 1))
        assert all(c["keypoints"] == list(KEYPOINTS) for c in categories)
        assert {a["category_id"] for a in coco.anns.values()} <= set(coco.cats)
        for image in coco.imgs.values():
            pixels = np.array(Image.open(folder / split / image["file_name"]))
            assert pixels.shape == (image["height"], image["width"], 3) == (64, 128, 3)
        records = load_coco_json(folder / f"{split}.json", folder / split)
        assert [len(record["annotations"]) for record in records] == [1] * number


def test_an_image_of_pairs_has_an_annotation_for_each():
    relay = replace(PAIRS[4], train=2, val=1)
    folder = relay.write()
    content = json.loads((folder / "train.json").read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [a["image_id"] for a in content["annotations"]] == [1, 1, 1, 1, 2, 2, 2, 2]
    records = load_coco_json(folder / "val.json", folder / "val")
    assert [len(record["annotations"]) for record in records] == [4]


def test_the_pictures_are_those_that_results_were_trained_on():
    """Where things lie by default, after other places and pairs had come."""
    _, [annotation] = Relay().draw("train", 0)
    assert annotation["signal"] == [3, 3, 32, 32] and annotation["category_id"] == 3
    np.testing.assert_allclose(annotation["bbox"], [204.666, 37.928, 58.505, 52.417], atol=1e-3)
    _, [annotation] = Relay(keypoints=True).draw("val", 7)
    assert annotation["signal"] == [253, 2, 32, 32]
    np.testing.assert_allclose(annotation["keypoints"][:2], [80.75, 89.85])


@pytest.mark.parametrize("relay", DEMOS, ids=list(RELAY_DATASETS))
def test_a_share_of_training_images_alone_has_its_signal_beside_the_object(relay):
    def gap(split, number):
        _, [annotation] = relay.draw(split, number)
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


# --- the picture -----------------------------------------------------------------------------


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
def test_the_signal_tells_class_or_head(relay):
    told = set()
    for pixels, annotation in drawn(relay):
        colour, _ = told_by(pixels, annotation)
        if relay.keypoints:
            head, _, tail = ends(annotation)
            assert annotation["category_id"] == 1
            assert colour == (HEAD_UP if head[1] < tail[1] else HEAD_DOWN)
        else:
            assert annotation["category_id"] == list(COLOURS).index(colour) + 1
        told.add(colour)
    assert told == ({HEAD_UP, HEAD_DOWN} if relay.keypoints else set(COLOURS))


@variants
def test_the_signal_lies_in_the_opposite_corner(relay):
    corners = set()
    for pixels, annotation in drawn(relay):
        x, y, w, h = annotation["signal"]
        assert (w, h) == (relay.signal, relay.signal)
        assert 0 <= min(x, y) and x + w <= relay.width and y + h <= relay.height
        colour, patch = told_by(pixels, annotation)
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


@pytest.mark.parametrize("relay", PAIRS.values(), ids=MORE_IDS[-2:])
def test_pairs_are_at_opposite_ends_in_every_order_and_apart(relay):
    orders = set()
    for _, annotations in pictures(relay, 400):
        assert len(annotations) == relay.pairs
        objects, signals = (np.array([a[key] for a in annotations]) for key in ("bbox", "signal"))
        left = objects[:, 0] + objects[:, 2] / 2 < relay.width / 2
        assert left.all() or not left.any()
        assert ((signals[:, 0] + relay.signal / 2 < relay.width / 2) != left).all()
        for boxes in (objects, signals):
            low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
            assert (low >= 0).all() and (high <= [relay.width, relay.height]).all()
            for one, other in itertools.combinations(range(relay.pairs), 2):
                assert ((high[one] <= low[other]) | (high[other] <= low[one])).any()
        order = [cell_of(box, relay) for box in signals]
        orders.add(tuple(order))
    assert len(orders) == math.factorial(relay.pairs)


def cell_of(box, relay):
    """Column and row, of two each, in the square at the box's end of the image."""
    centre = box[:2] + box[2:] / 2
    if centre[0] > relay.width / 2:
        centre[0] -= relay.width - relay.height
    return tuple((centre // (relay.height / 2)).astype(int).tolist())


@pytest.mark.parametrize("relay", PAIRS.values(), ids=MORE_IDS[-2:])
def test_of_pairs_each_colour_is_drawn_for_itself(relay):
    told = np.array([[a["category_id"] for a in found] for _, found in pictures(relay, 400)])
    same = (told[:, 0] == told[:, 1]).mean()
    assert same == pytest.approx(1 / 3, abs=3 * math.sqrt(2 / 9 / 400))


# --- registered with Detectron2 --------------------------------------------------------------


@pytest.fixture
def name():
    yield "relay_of_a_test"
    if "relay_of_a_test" in DatasetCatalog.list():
        DatasetCatalog.remove("relay_of_a_test")
        MetadataCatalog.remove("relay_of_a_test")


def test_importing_the_package_registers_both_variants():
    import nl_detectron  # noqa: F401

    expected = {f"{n}_{split}" for n in ("relay", "relay_keypoints") for split in SPLITS}
    assert expected <= set(DatasetCatalog.list())


def test_a_registered_split_is_written_when_first_loaded(name):
    relay = replace(TINY, keypoints=True)
    register_split(name, relay, "val")
    register_split(name, relay, "val")  # a second import does no harm
    assert not relay.folder().exists()
    records = DatasetCatalog.get(name)
    assert len(records) == relay.val
    meta = MetadataCatalog.get(name)
    assert meta.thing_classes == ["thing"]
    assert meta.keypoint_names == list(KEYPOINTS)
    content = json.loads((relay.folder() / "val.json").read_text())
    expected = ends(content["annotations"][0])
    loaded = np.reshape(records[0]["annotations"][0]["keypoints"], (3, 3))[:, :2]
    np.testing.assert_allclose(loaded, expected)


def test_a_registered_split_loads_after_the_cache_folder_was_changed(name, monkeypatch, tmp_path):
    register_split(name, TINY, "val")
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "elsewhere"))
    assert len(DatasetCatalog.get(name)) == TINY.val
