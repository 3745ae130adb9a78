"""The relay data set's files: seeded, whole, COCO's own format, and true to what is drawn."""

import json
import threading
from dataclasses import replace

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from PIL import Image
from pycocotools.coco import COCO

from nl_detectron.data import Relay
from nl_detectron.data.relay import (
    COLOURS,
    HEAD_DOWN,
    HEAD_UP,
    KEYPOINTS,
    MARGIN,
    SPLITS,
    register_split,
)

TINY = Relay(train=6, val=3, height=64, width=128, signal=9)
VARIANTS = [Relay(), Relay(keypoints=True), TINY, replace(TINY, keypoints=True)]
IDS = ["classes", "keypoints", "tiny classes", "tiny keypoints"]
variants = pytest.mark.parametrize("relay", VARIANTS, ids=IDS)


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


def drawn(relay, number=40):
    return [relay.draw(split, i) for split in SPLITS for i in range(number // 2)]


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


def test_a_crash_leaves_nothing_behind(crash, cache):
    assert list(cache.iterdir()) == []


def test_writers_at_the_same_time_leave_one_whole_folder(cache, monkeypatch):
    draw, both = Relay.draw, threading.Barrier(2, timeout=30)

    def meeting(self, split, number):
        if (split, number) == ("train", 0):
            both.wait()  # each has by now seen that the folder is not there
        return draw(self, split, number)

    monkeypatch.setattr(Relay, "draw", meeting)
    folders = []
    threads = [threading.Thread(target=lambda: folders.append(TINY.write())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folders == [TINY.folder()] * 2
    assert list(cache.iterdir()) == [TINY.folder()]
    assert len(contents(TINY.folder())) == TINY.train + TINY.val + 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 31}, "height of 32 or more"),
        ({"signal": 0}, "signal of 1"),
        ({"signal": 60}, "signal of 1 to the height less"),
        ({"width": 77}, "width of 78 or more"),
    ],
    ids=["low", "no signal", "a signal that may not fit", "short"],
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


@variants
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


@variants
def test_the_signal_tells_class_or_head_from_the_opposite_corner(relay):
    corners, told = set(), set()
    for pixels, annotation in drawn(relay):
        x, y, w, h = annotation["signal"]
        assert (w, h) == (relay.signal, relay.signal)
        assert 0 <= min(x, y) and x + w <= relay.width and y + h <= relay.height
        seen = pixels[y : y + h, x : x + w].reshape(-1, 3).mean(axis=0)
        colour = min(COLOURS, key=lambda name: np.abs(seen - COLOURS[name]).sum())
        np.testing.assert_allclose(seen, COLOURS[colour], atol=4)
        if relay.keypoints:
            head, _, tail = ends(annotation)
            assert annotation["category_id"] == 1
            assert colour == (HEAD_UP if head[1] < tail[1] else HEAD_DOWN)
        else:
            assert annotation["category_id"] == list(COLOURS).index(colour) + 1

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
        told.add(colour)
    assert len(corners) == 4
    assert told == ({HEAD_UP, HEAD_DOWN} if relay.keypoints else set(COLOURS))


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
