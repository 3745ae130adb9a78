"""Models of the explorer: what their checkpoints lack, and the records that are kept."""

import pytest
import torch
from coco_files import FILES, restore_catalogues, valid_content, write
from PIL import Image
from thin_models import CONFIG, THIN, make_explorer

from nl_detectron.attention import record_attention
from nl_detectron.errors import UsageError
from nl_detectron.explorer import models
from nl_detectron.explorer.images import list_dataset_images
from nl_detectron.explorer.models import load_explorer_model


@pytest.mark.slow
def test_a_model_is_run_once_for_an_image_and_the_latest_images_are_kept(
    file, tmp_path, monkeypatch
):
    looks = []
    monkeypatch.setattr(
        models,
        "record_attention",
        lambda *args, **words: looks.append(args) or record_attention(*args, **words),
    )
    ours = make_explorer(count=2)
    first = ours.get_records(file)
    assert len(first) == len(looks) == 2
    assert ours.get_records(file) is first and len(looks) == 2
    for number in range(models.MAX_RECORDS):
        other = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 64)).save(other)
        ours.get_records(str(other))
    assert ours.get_records(file) is not first


@pytest.mark.slow
def test_what_a_checkpoint_does_not_give_is_said(tmp_path):
    model = load_explorer_model(CONFIG, THIN)
    assert "backbone.bottom_up.res4.nonlocal4;" in model.untrained
    assert "roi_heads, so predictions" in model.untrained and model.title.endswith("no weights")
    torch.save({"model": model.model.state_dict()}, tmp_path / "whole.pth")
    whole = load_explorer_model(CONFIG, [*THIN, "MODEL.WEIGHTS", str(tmp_path / "whole.pth")])
    assert whole.untrained == "" and whole.title == "relay_mask_rcnn_nl, whole.pth"
    assert whole.classes.thing_classes == ["red", "green", "blue"]


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("configs/Demo/relay_mask_rcnn_nl.yaml", "relay_mask_rcnn_nl"),
        ("output/birds/config.yaml", "birds"),
        ("output/relay_mask_rcnn_nl/seed1/config.yaml", "relay_mask_rcnn_nl/seed1"),
        ("config.yaml", "here"),
    ],
)
def test_an_own_model_is_called_by_its_run(file, name, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert models.name_config(file) == name


def test_an_image_that_the_model_cannot_take_is_refused(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    words = ("MODEL.NONLOCAL.BACKBONE.AFTER", "['res5.-1']", "INPUT.MIN_SIZE_TEST", "20")
    with pytest.raises(UsageError, match=r"small\.png, 30 x 20: .*at least 2 positions"):
        make_explorer(*words).get_records(str(tmp_path / "small.png"))


def test_own_data_gives_images_and_names(tmp_path):
    content = valid_content()
    content["categories"].append({"id": 8, "name": "ibis"})  # three, as the model
    with restore_catalogues():
        data = write(tmp_path, content, "birds_val")
        model = load_explorer_model(CONFIG, THIN, [data])
        assert [p.name for p in list_dataset_images(model.data_set)] == list(FILES)
        assert model.classes.thing_classes == ["jay", "ibis", "owl"]
