"""Runs on data with an image that cannot be read."""

import json

import pytest
from config_kinds import KINDS
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.coco import load_coco_json
from fast_part import first_cases
from PIL import Image

from nl_detectron.engine import Trainer
from nl_detectron.errors import UsageError
from nl_detectron.relay import Relay, write_dataset


@pytest.fixture
def torn(tmp_path, monkeypatch):
    """A data set torn_train, which has a truncated image, and its name."""
    relay = Relay(train=6, val=2, height=64, width=128, signal=9)
    folder = write_dataset(relay, tmp_path / "torn")
    image = folder / "train" / "00002.png"
    image.write_bytes(image.read_bytes()[:-900])
    files = str(folder / "train.json"), str(folder / "train")
    DatasetCatalog.register("torn_train", lambda: load_coco_json(*files, "torn_train"))
    MetadataCatalog.get("torn_train").set(json_file=files[0], image_root=files[1])
    yield image
    DatasetCatalog.remove("torn_train")
    MetadataCatalog.remove("torn_train")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_image_stops_a_training_by_its_name(
    kind, torn, tiny_of_kind, train, tmp_path, capfd
):
    cfg = tiny_of_kind(kind, tmp_path / "run", train_set=_names(kind), max_iter=4)
    with pytest.raises(UsageError, match=r"00002\.png \(id 3\) cannot be used") as caught:
        train(cfg)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_image_is_replaced_where_allowed(kind, torn, tiny_of_kind, train, tmp_path):
    options = {"train_set": _names(kind), "max_iter": 4, "max_bad_samples": 9}
    train(tiny_of_kind(kind, tmp_path / "run", **options))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert 1 <= summary["bad_samples"] <= 2  # 8 samples of 6 images
    log = (tmp_path / "run" / "log.txt").read_text()
    assert "00002.png (id 3) cannot be used" in log and "another one replaces it (1)" in log
    assert f"{summary['bad_samples']} bad training sample(s) were replaced" in log


@pytest.mark.slow
def test_a_resumed_run_still_counts_the_images_that_were_replaced_before(
    torn, tiny_of_kind, train, tmp_path
):
    options = {"train_set": _names("yaml"), "max_bad_samples": 9}
    cfg = tiny_of_kind("yaml", tmp_path, max_iter=4, **options)
    train(cfg)
    before = json.loads((tmp_path / "summary.json").read_text())["bad_samples"]
    trainer = train(tiny_of_kind("yaml", tmp_path, max_iter=5, **options), "--resume")
    assert trainer.start_iter == 4 and before >= 1
    assert json.loads((tmp_path / "summary.json").read_text())["bad_samples"] >= before


@first_cases(1, "kind", KINDS)
def test_a_truncated_image_stops_an_evaluation_by_its_name(kind, torn, tiny_of_kind, tmp_path):
    cfg = tiny_of_kind(kind, tmp_path / "run")
    loader = Trainer.build_test_loader(cfg, "tiny_val")
    assert len(loader) == 4 and len(list(loader)) == 4
    name = DatasetCatalog.get("tiny_val")[1]["file_name"]
    with Image.open(name) as image:
        image.load()
        pixels = image.copy()
    try:
        with open(name, "wb") as file:
            file.write(b"no image")
        with pytest.raises(UsageError, match=r"\(id 2\) cannot be used"):
            list(loader)
    finally:
        pixels.save(name)


def _names(kind: str) -> str:
    return "('torn_train',)" if kind == "yaml" else "torn_train"
