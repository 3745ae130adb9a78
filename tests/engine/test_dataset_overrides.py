"""A config follows the data of ``--dataset``: its sets, how many classes and keypoints."""

import pytest
from coco_files import BOX, DEMO, KEYPOINT, MASK, PLAIN, RETINANET, named, valid_content, write
from detectron2.data import MetadataCatalog

from nl_detectron.engine import load_config, preflight
from nl_detectron.engine.dataset_overrides import SIGMA

pytestmark = pytest.mark.usefixtures("own_catalogues")


def test_names_tell_what_a_data_set_is_for(load_args, birds):
    cfg, args = load_args(MASK, *birds(), *birds("birds_val"), *birds("birds_test"))
    assert cfg.DATASETS.TRAIN == ("birds_train",)
    assert cfg.DATASETS.TEST == ("birds_val", "birds_test")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert cfg.is_frozen()
    assert [note.split(":")[0] for note in args.notes] == ["--dataset", "birds_train, 2 class(es)"]
    assert "MODEL.ROI_HEADS.NUM_CLASSES 80 -> 2" in args.notes[1]
    preflight(cfg, args)


def test_a_training_set_alone_is_not_evaluated(load_args, birds):
    cfg, args = load_args(MASK, *birds())
    assert cfg.DATASETS.TEST == ()
    assert "DATASETS.TEST ()" in args.notes[0]


def test_a_test_set_alone_is_followed(load_args, birds):
    cfg, _ = load_args(MASK, *birds("birds_val"), "--eval-only")
    assert cfg.DATASETS.TEST == ("birds_val",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_overrides_are_left_alone(load_args, birds):
    sets = ("DATASETS.TRAIN", "('birds',)", "DATASETS.TEST", "('birds', 'birds_train')")
    opts = (*PLAIN, *sets, "MODEL.ROI_HEADS.NUM_CLASSES", 5)
    cfg, args = load_args(MASK, *birds("birds"), *birds(), opts=opts)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("birds",), ("birds", "birds_train"))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5
    assert args.notes == []


def test_a_config_file_may_name_the_data_sets(load_args, birds, tmp_path):
    file = tmp_path / "birds.yaml"
    file.write_text(f"_BASE_: {MASK}\nDATASETS:\n  TRAIN: ('birds',)\n  TEST: ('birds_train',)\n")
    cfg, _ = load_args(file, *birds("birds"), *birds())
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("birds",), ("birds_train",))


def test_keypoints_and_sigmas_follow_the_data(load_args, birds):
    cfg, args = load_args(KEYPOINT, *birds(), *birds("birds_val"))
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 3
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [SIGMA] * 3
    notes = "\n".join(args.notes)
    assert f"TEST.KEYPOINT_OKS_SIGMAS is {SIGMA} for each of 3 keypoints" in notes
    assert "NUM_KEYPOINTS 17 -> 3" in notes
    assert "left_wing and right_wing" in notes
    preflight(cfg, args)


def test_the_sigma_is_the_mean_of_cocos():
    from pycocotools.cocoeval import Params

    assert Params("keypoints").kpt_oks_sigmas.mean() == pytest.approx(SIGMA, abs=5e-4)


def test_sigmas_of_a_config_are_kept_where_their_number_is_right(load_args, birds):
    assert load_args(DEMO, *birds())[0].TEST.KEYPOINT_OKS_SIGMAS == [0.1] * 3
    given = (*PLAIN, "TEST.KEYPOINT_OKS_SIGMAS", "[0.2, 0.3, 0.4]")
    assert load_args(KEYPOINT, *birds(), opts=given)[0].TEST.KEYPOINT_OKS_SIGMAS == [0.2, 0.3, 0.4]


def test_cocos_own_keypoints_keep_cocos_sigmas(load_args, birds):
    def coco(content):
        named(*MetadataCatalog.get("keypoints_coco_2017_val").keypoint_names)(content)

    cfg, args = load_args(KEYPOINT, *birds(change=coco))
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == []
    assert not any("SIGMAS" in note for note in args.notes)
    # of three in the file, which would not do
    assert load_args(DEMO, *birds(change=coco))[0].TEST.KEYPOINT_OKS_SIGMAS == []


def test_seventeen_keypoints_of_another_kind_do_not_take_cocos_sigmas(load_args, birds):
    other = named(*(f"feather {i}" for i in range(17)))
    cfg, _ = load_args(KEYPOINT, *birds(change=other))
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [SIGMA] * 17


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("beak", "tail", "crown"), "no keypoint has left or right in its name"),
        (("beak", "left_eye", "left_foot"), "no partner on the other side for left_eye, left_foot"),
    ],
)
def test_what_a_flip_does_to_keypoints_is_reported(load_args, birds, names, message):
    assert message in load_args(KEYPOINT, *birds(change=named(*names)))[1].notes[-1]
    unflipped = (*PLAIN, "INPUT.RANDOM_FLIP", "none")
    notes = load_args(KEYPOINT, *birds(change=named(*names)), opts=unflipped)[1].notes
    assert not any("flipped image" in note for note in notes)


def test_masks_as_rle_take_their_format(load_args, birds):
    def rle(content):
        content["annotations"][3]["iscrowd"] = 0

    assert load_args(MASK, *birds(change=rle))[0].INPUT.MASK_FORMAT == "bitmask"
    assert load_args(MASK, *birds())[0].INPUT.MASK_FORMAT == "polygon"
    assert load_args(BOX, *birds(change=rle))[0].INPUT.MASK_FORMAT == "polygon"


def test_retinanets_classes_follow_the_data(load_args, birds):
    cfg, args = load_args(RETINANET, *birds(), *birds("birds_val"))
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    preflight(cfg, args)


def test_code_may_give_data_too(tmp_path, capsys):
    data = write(tmp_path, valid_content())
    cfg = load_config(str(MASK), PLAIN, [data])
    assert cfg.DATASETS.TRAIN == ("birds_train",)
    assert "NUM_CLASSES 80 -> 2" in capsys.readouterr().out
