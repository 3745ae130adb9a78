"""Data that does not fit the model or other data is reported before a run."""

import json

import pytest
from coco_files import (
    BOX,
    HEIGHT,
    KEYPOINT,
    LAZY,
    MASK,
    PLAIN,
    WIDTH,
    dataset_argument,
    valid_content,
    without_keypoints,
    without_masks,
    write,
)

from nl_detectron.data import CocoDataset
from nl_detectron.engine import Trainer, preflight
from nl_detectron.errors import UsageError

pytestmark = pytest.mark.usefixtures("own_catalogues")


def test_a_data_set_that_is_used_nowhere_is_reported(refusal, birds):
    assert "--dataset birds is used nowhere" in refusal(MASK, *birds("birds"))


def test_a_name_given_twice_or_taken_is_reported(refusal, birds, tmp_path):
    assert "--dataset birds_train is given more than once" in refusal(MASK, *birds(), *birds())
    taken = CocoDataset("coco_2017_train", write(tmp_path, valid_content()).annotations, "images")
    assert "'coco_2017_train' is taken" in refusal(MASK, "--dataset", dataset_argument(taken))


def test_files_that_are_not_there_are_reported(refusal, birds, tmp_path):
    missing = f"birds_train={tmp_path}/no.json:{tmp_path}"
    assert "there is no such file" in refusal(MASK, "--dataset", missing)
    [_, good] = birds()
    assert "its images are not at" in refusal(MASK, "--dataset", f"{good}s")


def test_a_word_of_another_form_is_reported(load_args, capsys):
    with pytest.raises(SystemExit):
        load_args(MASK, "--dataset", "birds.json")
    assert "expected NAME=ANNOTATIONS.json:IMAGE_FOLDER" in capsys.readouterr().err


def test_options_may_follow_overrides(load_args, birds):
    cfg, _ = load_args(MASK, opts=(*PLAIN, *birds()))
    assert cfg.DATASETS.TRAIN == ("birds_train",)


def test_a_model_for_what_the_data_lacks_is_reported(refusal, birds):
    assert "has no masks" in refusal(MASK, *birds("boxes_train", without_masks))
    assert "names keypoints" in refusal(KEYPOINT, *birds("birds_train", without_keypoints))


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_of_classes_is_reported(refusal, birds, number):
    opts = (*PLAIN, "MODEL.ROI_HEADS.NUM_CLASSES", number)
    message = refusal(MASK, *birds(), *birds("birds_val"), opts=opts)
    assert f"NUM_CLASSES is {number}, but 'birds_" in message and "has 2 class(es)" in message


def test_more_classes_than_are_trained_do_no_harm(load_args, birds):
    preflight(*load_args(MASK, *birds(), opts=(*PLAIN, "MODEL.ROI_HEADS.NUM_CLASSES", 3)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 4), ("TEST.KEYPOINT_OKS_SIGMAS", "[0.1]")],
)
def test_another_number_of_keypoints_or_sigmas_is_reported(refusal, birds, key, value):
    assert key in refusal(KEYPOINT, *birds(), *birds("birds_val"), opts=(*PLAIN, key, value))


def test_classes_in_another_order_are_reported(refusal, birds):
    def swapped(content):
        for category, number in zip(content["categories"], (3, 20), strict=True):
            category["id"] = number

    message = refusal(MASK, *birds(), *birds("birds_val", swapped))
    assert "number 1, is 'jay' and 'owl'" in message
    fewer = refusal(MASK, *birds(), *birds("birds_test", lambda c: c["categories"].pop(0)))
    assert "(2 and 1; the first that differs, number 2, is 'owl' and missing)" in fewer


def test_broken_annotations_are_reported_where_the_model_needs_them(refusal, load_args, birds):
    def change(content):
        content["annotations"][0].pop("area")
        content["annotations"][1]["keypoints"] = [1, 2]
        content["annotations"][2].pop("segmentation")

    train, val = birds("birds_train", change), birds("birds_val", change)
    message = refusal(KEYPOINT, *train)
    assert "'birds_train' cannot be used: keypoint count (1: annotation 2 of a.png)" in message
    assert "tools/check_dataset.py" in message
    assert "no mask (1: annotation 4 of b.png)" in refusal(MASK, *train)
    assert "no area or iscrowd" in refusal(BOX, *train, *val)
    preflight(*load_args(BOX, *train))


def test_an_unregistered_data_set_is_reported_with_the_option(refusal):
    opts = (*PLAIN, "DATASETS.TRAIN", "('birds_train',)")
    assert "--dataset birds_train=ANNOTATIONS.json:IMAGE_FOLDER" in refusal(MASK, opts=opts)


def test_a_lazy_config_names_own_data_itself(refusal, load_args, birds):
    message = refusal(LAZY, *birds(), opts=())
    assert "--dataset birds_train is used nowhere: a LazyConfig" in message
    preflight(*load_args(LAZY, *birds(), opts=("dataloader.train.dataset.names=birds_train",)))


@pytest.mark.slow
def test_a_lazy_config_refuses_broken_annotations_too(refusal, load_args, birds):
    def change(content):
        content["annotations"][0]["segmentation"] = [[1e300, 1, 5, 5, 1, 5]]

    opts = ("dataloader.train.dataset.names=birds_train",)
    assert "malformed mask" in refusal(LAZY, *birds("birds_train", change), opts=opts)

    def rle(content):
        mask = {"counts": [0, WIDTH * HEIGHT], "size": [HEIGHT, WIDTH]}
        content["annotations"][0]["segmentation"] = mask

    opts = ("dataloader.train.dataset.names=rle_train",)
    message = refusal(LAZY, *birds("rle_train", rle), opts=opts)
    assert "dataloader.train.mapper.instance_mask_format must be bitmask" in message
    opts = (*opts, "+dataloader.train.mapper.instance_mask_format=bitmask")
    preflight(*load_args(LAZY, *birds("rle_train", rle), opts=opts))


@pytest.mark.slow
def test_images_outside_their_folder_are_refused_unless_allowed(
    refusal, load_args, birds, tmp_path
):
    (tmp_path / "images" / "x").mkdir(parents=True)

    def change(content):
        content["images"][0]["file_name"] = "../images/a.png"
        content["images"][1]["file_name"] = "x/../b.png"  # inside

    words = birds("birds_train", change)
    message = refusal(BOX, *words)
    assert "image outside its folder (1: ../images/a.png)" in message
    allowed = ("DATASETS.ALLOW_OUTSIDE_IMAGES", "True")
    preflight(*load_args(BOX, *words, opts=(*PLAIN, *allowed)))
    lazy = ("dataloader.train.dataset.names=birds_train",)
    assert "image outside its folder" in refusal(LAZY, *words, opts=lazy)
    preflight(*load_args(LAZY, *words, opts=(*lazy, "train.allow_outside_images=true")))


def test_a_data_set_of_code_that_cannot_be_loaded_is_one_message(birds, load_args, tmp_path):
    cfg, _ = load_args(BOX, *birds())
    content = valid_content()
    content["annotations"][0]["segmentation"] = 5
    (tmp_path / "birds_train.json").write_text(json.dumps(content))  # after it was checked
    with pytest.raises(UsageError, match="data set birds_train cannot be loaded") as caught:
        Trainer.build_train_loader(cfg)
    assert "tools/check_dataset.py" in str(caught.value) and "\n" not in str(caught.value)
