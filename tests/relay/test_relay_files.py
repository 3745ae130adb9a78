"""The files of a relay data set: seeded, complete, in COCO's format, written once."""

import json
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from detectron2.data.datasets.coco import load_coco_json
from PIL import Image
from pycocotools.coco import COCO
from relay_variants import PAIRS, TINY

from nl_detectron.relay import cache_folder, files, write_dataset
from nl_detectron.relay.spec import KEYPOINTS


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def test_equal_settings_write_equal_bytes(monkeypatch, tmp_path):
    first = contents(write_dataset(TINY))
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path / "elsewhere"))
    again = contents(write_dataset(replace(TINY)))
    assert len(first) == TINY.train + TINY.val + 2
    assert again == first


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
    assert cache_folder(replace(TINY, **change)) != cache_folder(TINY)


def test_another_generator_has_another_folder(monkeypatch, tmp_path):
    source = tmp_path / "files.py"
    monkeypatch.setattr(files, "__file__", str(source))
    folders = set()
    for code in ("MARGIN = 5", "MARGIN = 6"):
        source.write_text(code)
        folders.add(cache_folder(TINY))
    assert len(folders) == 2


def test_the_environment_names_the_cache_folder(cache, monkeypatch, tmp_path):
    assert cache_folder(TINY).parent == cache
    monkeypatch.delenv("NL_DETECTRON_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder(TINY).parent == tmp_path / ".cache" / "nl_detectron"


def test_an_existing_folder_is_not_written_again(monkeypatch):
    folder = write_dataset(TINY)
    monkeypatch.setattr(files, "draw_image", None)
    assert write_dataset(TINY) == folder


@pytest.fixture
def crash(monkeypatch):
    """A write that is interrupted in the middle of the second split."""
    draw = files.draw_image

    def interrupted(relay, split, number):
        if (split, number) == ("val", 1):
            raise KeyboardInterrupt
        return draw(relay, split, number)

    with monkeypatch.context() as patch:
        patch.setattr(files, "draw_image", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_dataset(TINY)


def test_an_interrupted_write_leaves_no_folder(crash):
    assert not cache_folder(TINY).exists()
    assert len(contents(write_dataset(TINY))) == TINY.train + TINY.val + 2


def test_an_interrupted_write_leaves_only_its_lock_file(crash, cache):
    assert list(cache.iterdir()) == [cache_folder(TINY).with_suffix(".lock")]


def test_what_a_killed_write_has_left_is_removed(cache):
    folder = cache_folder(TINY)
    for name in (f".{folder.name}-abc", ".relay-of_another_data_set-abc"):
        (cache / name / "train").mkdir(parents=True)
    write_dataset(TINY)
    assert {path.name for path in cache.glob(".*")} == {".relay-of_another_data_set-abc"}


def test_one_of_two_writers_draws_and_the_other_waits(monkeypatch):
    draw, drawn, started = files.draw_image, [], threading.Event()

    def slow(relay, split, number):
        drawn.append((split, number))
        started.set()
        time.sleep(0.02)
        return draw(relay, split, number)

    monkeypatch.setattr(files, "draw_image", slow)
    folders = []
    threads = [
        threading.Thread(target=lambda: folders.append(write_dataset(TINY))) for _ in range(2)
    ]
    threads[0].start()
    assert started.wait(timeout=30)
    threads[1].start()
    for thread in threads:
        thread.join()
    assert folders == [cache_folder(TINY)] * 2
    assert len(drawn) == TINY.train + TINY.val
    assert len(contents(cache_folder(TINY))) == TINY.train + TINY.val + 2


@pytest.mark.parametrize("keypoints", [False, True])
def test_coco_and_detectron2_read_what_is_written(keypoints, capsys):
    relay = replace(TINY, keypoints=keypoints)
    folder = write_dataset(relay)
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
    folder = write_dataset(relay)
    content = json.loads((folder / "train.json").read_text())
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [a["image_id"] for a in content["annotations"]] == [1, 1, 1, 1, 2, 2, 2, 2]
    records = load_coco_json(folder / "val.json", folder / "val")
    assert [len(record["annotations"]) for record in records] == [4]
