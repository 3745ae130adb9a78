"""What the demo finds: the model's own detections, in JSON, with the names of classes."""

import cv2
import numpy as np
import pycocotools.mask
import pytest
from coco_files import dataset_argument, restore_catalogues, valid_content, write
from detectron2.engine import DefaultPredictor
from media import CONFIGS, SURE, is_blank, list_names, save_image
from PIL import Image

from nl_detectron.engine import load_config

HEADS = (
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[2]"),
)


def test_json_is_what_the_model_predicts(run, opts, tmp_path):
    path = save_image(tmp_path / "image.png")
    _, [line] = run("--input", path)
    cfg = load_config(str(CONFIGS / "relay_mask_rcnn_nl.yaml"), opts("relay_mask_rcnn_nl"))
    found = DefaultPredictor(cfg)(cv2.imread(str(path)))["instances"]
    found = found[found.scores >= float(SURE)]
    assert len(found) == len(line["detections"]) > 0
    for i, row in enumerate(line["detections"]):
        assert row["class_id"] == found.pred_classes[i]
        assert row["class_name"] == ("red", "green", "blue")[row["class_id"]]
        assert row["score"] == pytest.approx(float(found.scores[i]))
        assert row["box"] == pytest.approx(found.pred_boxes.tensor[i].tolist(), abs=1e-3)
        mask = pycocotools.mask.decode(row["mask"]).astype(bool)
        assert (mask == found.pred_masks[i].numpy()).mean() > 0.999
        assert "keypoints" not in row


@pytest.mark.slow
def test_keypoints_are_written_and_blocks_of_a_head_shown(run, tmp_path):
    path = save_image(tmp_path / "image.png")
    words = ("--input", path, "--attention", "auto")
    code, [line] = run(*words, model="relay_keypoint_rcnn_nl", more=HEADS, least="0.1")
    assert code == 0 and line["detections"]
    for row in line["detections"]:
        assert np.shape(row["keypoints"]) == (3, 3)
        assert "mask" not in row and row["class_name"] == "thing"
    assert not is_blank(tmp_path / "out/image.attention1.png")
    with Image.open(tmp_path / "out/image.attention1.png") as panel:
        assert panel.width > 2000  # two blocks in a row


@pytest.mark.slow
def test_only_sure_detections_are_kept(run, tmp_path):
    path = save_image(tmp_path / "image.png")
    _, [many] = run("--input", path, least="0")
    scores = sorted((row["score"] for row in many["detections"]), reverse=True)
    assert len(scores) == 4
    _, [few] = run("--input", path, least=str((scores[1] + scores[2]) / 2))
    kept = [(row["score"], row["box"]) for row in few["detections"]]
    assert kept == [(row["score"], row["box"]) for row in many["detections"][:2]]
    code, [none] = run("--input", path, "--attention", "auto", least="1")
    assert code == 0 and none["detections"] == []
    assert not is_blank(tmp_path / "out/image.attention1.png")  # from the centre


@pytest.mark.slow
def test_a_batch_finds_what_single_images_have(run, tmp_path):
    paths = [save_image(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    _, single = run("--input", *paths, output="single", least="0")
    _, pairs = run("--input", *paths, "--batch-size", 2, output="pairs", least="0")
    assert len(single) == len(pairs) == 3
    for one, other in zip(single, pairs, strict=True):
        assert one["file"] == other["file"] and one["detections"]
        for a, b in zip(one["detections"], other["detections"], strict=True):
            assert a["class_id"] == b["class_id"]
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)
            assert a["box"] == pytest.approx(b["box"], abs=1e-2)


@pytest.mark.slow
def test_images_of_a_batch_may_differ_in_size(run, tmp_path):
    paths = [save_image(tmp_path / "a.png", 64, 96), save_image(tmp_path / "b.png", 80, 64)]
    code, lines = run("--input", *paths, "--batch-size", 2, "--attention", "10,70")
    assert code == 1  # the first has no such point
    assert [(line["height"], line["width"]) for line in lines] == [(64, 96), (80, 64)]
    assert list_names(tmp_path / "out") == [
        "a.png",
        "b.attention1.png",
        "b.png",
        "detections.jsonl",
    ]


def test_the_narrowest_images_are_drawn(run, tmp_path):
    code, [line] = run("--input", save_image(tmp_path / "image.png", 40, 2), least="0")
    assert code == 0 and line["detections"]


@pytest.mark.slow
def test_classes_without_names_have_numbers(run, tmp_path, capsys):
    path = save_image(tmp_path / "image.png")
    code, [line] = run("--input", path, more=("DATASETS.TEST", "('birds_val',)"))
    assert code == 0
    assert {row["class_name"] for row in line["detections"]} == {None}
    assert "shown by number" in capsys.readouterr().err


def test_classes_of_own_data_have_its_names(run, tmp_path, capsys):
    content = valid_content()
    content["categories"].append({"id": 8, "name": "ibis"})  # three, as the model
    data = write(tmp_path, content, "birds_val")
    with restore_catalogues():
        words = ("--input", tmp_path / "images" / "a.png", "--dataset", dataset_argument(data))
        code, [line] = run(*words, least="0")
    assert code == 0
    assert line["detections"]
    assert {row["class_name"] for row in line["detections"]} <= {"jay", "ibis", "owl"}
    assert "DATASETS.TEST ('birds_val',)" in capsys.readouterr().err
