"""train_net.py's own arguments: data sets that a config follows, and a batch that scales it."""

import copy
import json
import logging
import pickle
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from own_data import catalogues_left_alone, sound_content, word, write

from nl_detectron.data import OwnData
from nl_detectron.engine import (
    Trainer,
    UsageError,
    configured,
    lazy,
    load_config,
    preflight,
    start_run,
)
from nl_detectron.engine.batch import SCALED, scale_batch
from nl_detectron.engine.follow import SIGMA, get

ROOT = Path(__file__).parents[2]
MASK = ROOT / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_nl_1x.yaml"
KEYPOINT = ROOT / "configs/COCO-Keypoints/keypoint_rcnn_R_50_FPN_nl_1x.yaml"
BOX = ROOT / "configs/COCO-Detection/faster_rcnn_R_50_FPN_nl_1x.yaml"
RETINANET = ROOT / "configs/COCO-Detection/retinanet_R_50_FPN_nl_1x.yaml"
LAZY = str(ROOT / "configs/Demo/relay_mask_rcnn.py")
DEMO = ROOT / "configs/Demo/relay_keypoint_rcnn.yaml"
PLAIN = ("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "")


@pytest.fixture(autouse=True)
def own_catalogues():
    with catalogues_left_alone():
        yield


@pytest.fixture
def birds(tmp_path):
    """Writes a data set: ``birds(name, change)`` gives its --dataset words."""

    def make(name="birds_train", change=None) -> list[str]:
        content = sound_content()
        if change:
            change(content)
        return ["--dataset", word(write(tmp_path, content, name))]

    return make


@pytest.fixture
def line(arguments):
    """The config and notes of words of the command line; the config file first."""

    def parse(config, *words, opts=PLAIN):
        args = arguments("--config-file", str(config), *map(str, words), *map(str, opts))
        return configured(args), args

    return parse


def without_masks(content: dict) -> None:
    for annotation in content["annotations"]:
        del annotation["segmentation"]


def without_keypoints(content: dict) -> None:
    for entry in content["annotations"] + content["categories"]:
        for key in ("keypoints", "num_keypoints", "skeleton"):
            entry.pop(key, None)


def named(*names):
    def change(content: dict) -> None:
        for category in content["categories"]:
            category.update(keypoints=list(names), skeleton=[])

    return change


# --- the config follows the data -----------------------------------------------------------------


def test_names_tell_what_a_data_set_is_for(line, birds):
    cfg, args = line(MASK, *birds(), *birds("birds_val"), *birds("birds_test"))
    assert cfg.DATASETS.TRAIN == ("birds_train",)
    assert cfg.DATASETS.TEST == ("birds_val", "birds_test")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert cfg.is_frozen()
    assert [note.split(":")[0] for note in args.notes] == ["--dataset", "birds_train, 2 class(es)"]
    assert "MODEL.ROI_HEADS.NUM_CLASSES 80 -> 2" in args.notes[1]
    preflight(cfg, args)


def test_a_training_set_alone_is_not_evaluated(line, birds):
    cfg, args = line(MASK, *birds())
    assert cfg.DATASETS.TEST == ()
    assert "DATASETS.TEST ()" in args.notes[0]


def test_a_test_set_alone_is_followed(line, birds):
    cfg, _ = line(MASK, *birds("birds_val"), "--eval-only")
    assert cfg.DATASETS.TEST == ("birds_val",)
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2


def test_overrides_are_left_alone(line, birds):
    sets = ("DATASETS.TRAIN", "('birds',)", "DATASETS.TEST", "('birds', 'birds_train')")
    opts = (*PLAIN, *sets, "MODEL.ROI_HEADS.NUM_CLASSES", 5)
    cfg, args = line(MASK, *birds("birds"), *birds(), opts=opts)
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("birds",), ("birds", "birds_train"))
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5
    assert args.notes == []


def test_a_config_file_may_name_the_data_sets(line, birds, tmp_path):
    file = tmp_path / "birds.yaml"
    file.write_text(f"_BASE_: {MASK}\nDATASETS:\n  TRAIN: ('birds',)\n  TEST: ('birds_train',)\n")
    cfg, _ = line(file, *birds("birds"), *birds())
    assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (("birds",), ("birds_train",))


def test_keypoints_and_sigmas_follow_the_data(line, birds):
    cfg, args = line(KEYPOINT, *birds(), *birds("birds_val"))
    assert cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 3
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 2
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [SIGMA] * 3
    told = "\n".join(args.notes)
    assert f"TEST.KEYPOINT_OKS_SIGMAS is {SIGMA} for each of 3 keypoints" in told
    assert "NUM_KEYPOINTS 17 -> 3" in told
    assert "left_wing and right_wing" in told
    preflight(cfg, args)


def test_the_sigma_is_the_mean_of_cocos():
    from pycocotools.cocoeval import Params

    assert Params("keypoints").kpt_oks_sigmas.mean() == pytest.approx(SIGMA, abs=5e-4)


def test_sigmas_of_a_config_are_kept_where_their_number_is_right(line, birds):
    assert line(DEMO, *birds())[0].TEST.KEYPOINT_OKS_SIGMAS == [0.1] * 3
    given = (*PLAIN, "TEST.KEYPOINT_OKS_SIGMAS", "[0.2, 0.3, 0.4]")
    assert line(KEYPOINT, *birds(), opts=given)[0].TEST.KEYPOINT_OKS_SIGMAS == [0.2, 0.3, 0.4]


def test_cocos_own_keypoints_keep_cocos_sigmas(line, birds):
    def coco(content):
        named(*MetadataCatalog.get("keypoints_coco_2017_val").keypoint_names)(content)

    cfg, args = line(KEYPOINT, *birds(change=coco))
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == []
    assert not any("SIGMAS" in note for note in args.notes)
    # of three in the file, which would not do
    assert line(DEMO, *birds(change=coco))[0].TEST.KEYPOINT_OKS_SIGMAS == []


def test_seventeen_keypoints_of_another_kind_do_not_take_cocos_sigmas(line, birds):
    other = named(*(f"feather {i}" for i in range(17)))
    cfg, _ = line(KEYPOINT, *birds(change=other))
    assert cfg.TEST.KEYPOINT_OKS_SIGMAS == [SIGMA] * 17


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("beak", "tail", "crown"), "no keypoint is left or right by its name"),
        (("beak", "left_eye", "left_foot"), "no partner on the other side for left_eye, left_foot"),
    ],
)
def test_what_a_flip_does_to_keypoints_is_told(line, birds, names, said):
    assert said in line(KEYPOINT, *birds(change=named(*names)))[1].notes[-1]
    unflipped = (*PLAIN, "INPUT.RANDOM_FLIP", "none")
    notes = line(KEYPOINT, *birds(change=named(*names)), opts=unflipped)[1].notes
    assert not any("flipped image" in note for note in notes)


def test_masks_as_rle_take_their_format(line, birds):
    def rle(content):
        content["annotations"][3]["iscrowd"] = 0

    assert line(MASK, *birds(change=rle))[0].INPUT.MASK_FORMAT == "bitmask"
    assert line(MASK, *birds())[0].INPUT.MASK_FORMAT == "polygon"
    assert line(BOX, *birds(change=rle))[0].INPUT.MASK_FORMAT == "polygon"


def test_retinanets_classes_follow_the_data(line, birds):
    cfg, args = line(RETINANET, *birds(), *birds("birds_val"))
    assert cfg.MODEL.RETINANET.NUM_CLASSES == 2
    preflight(cfg, args)


def test_code_may_give_data_too(tmp_path, capsys):
    data = write(tmp_path, sound_content())
    cfg = load_config(str(MASK), PLAIN, [data])
    assert cfg.DATASETS.TRAIN == ("birds_train",)
    assert "NUM_CLASSES 80 -> 2" in capsys.readouterr().out


# --- what does not fit ---------------------------------------------------------------------------


@pytest.fixture
def refusal(line):
    """What is told of a command line that cannot be run."""

    def check(*words, **more) -> str:
        with pytest.raises(UsageError) as caught:
            preflight(*line(*words, **more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return check


def test_a_data_set_that_is_used_nowhere_is_told(refusal, birds):
    assert "--dataset birds is used nowhere" in refusal(MASK, *birds("birds"))


def test_a_name_given_twice_or_taken_is_told(refusal, birds, tmp_path):
    assert "--dataset birds_train is given more than once" in refusal(MASK, *birds(), *birds())
    taken = OwnData("coco_2017_train", write(tmp_path, sound_content()).annotations, "images")
    assert "'coco_2017_train' is taken" in refusal(MASK, "--dataset", word(taken))


def test_files_that_are_not_there_are_told(refusal, birds, tmp_path):
    missing = f"birds_train={tmp_path}/no.json:{tmp_path}"
    assert "there is no such file" in refusal(MASK, "--dataset", missing)
    [_, good] = birds()
    assert "its images are not at" in refusal(MASK, "--dataset", f"{good}s")


def test_a_word_of_another_form_is_told(line, capsys):
    with pytest.raises(SystemExit):
        line(MASK, "--dataset", "birds.json")
    assert "expected NAME=ANNOTATIONS.json:IMAGE_FOLDER" in capsys.readouterr().err


def test_options_after_overrides_are_told(refusal, birds):
    assert "--dataset comes after KEY VALUE overrides" in refusal(MASK, opts=(*PLAIN, *birds()))


def test_a_model_for_what_the_data_lacks_is_told(refusal, birds):
    assert "has no masks" in refusal(MASK, *birds("boxes_train", without_masks))
    assert "names keypoints" in refusal(KEYPOINT, *birds("birds_train", without_keypoints))


@pytest.mark.parametrize("number", [1, 3])
def test_another_number_of_classes_is_told(refusal, birds, number):
    opts = (*PLAIN, "MODEL.ROI_HEADS.NUM_CLASSES", number)
    message = refusal(MASK, *birds(), *birds("birds_val"), opts=opts)
    assert f"NUM_CLASSES is {number}, but 'birds_" in message and "has 2 class(es)" in message


def test_more_classes_than_are_trained_do_no_harm(line, birds):
    preflight(*line(MASK, *birds(), opts=(*PLAIN, "MODEL.ROI_HEADS.NUM_CLASSES", 3)))


@pytest.mark.parametrize(
    ("key", "value"),
    [("MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 4), ("TEST.KEYPOINT_OKS_SIGMAS", "[0.1]")],
)
def test_another_number_of_keypoints_or_sigmas_is_told(refusal, birds, key, value):
    assert key in refusal(KEYPOINT, *birds(), *birds("birds_val"), opts=(*PLAIN, key, value))


def test_classes_in_another_order_are_told(refusal, birds):
    def swapped(content):
        for category, number in zip(content["categories"], (3, 20), strict=True):
            category["id"] = number

    message = refusal(MASK, *birds(), *birds("birds_val", swapped))
    assert "number 1, is 'jay' and 'owl'" in message
    fewer = refusal(MASK, *birds(), *birds("birds_test", lambda c: c["categories"].pop(0)))
    assert "(2 and 1; the first that differs, number 2, is 'owl' and missing)" in fewer


def test_broken_annotations_are_told_where_the_model_needs_them(refusal, line, birds):
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
    preflight(*line(BOX, *train))


def test_an_unregistered_data_set_is_told_with_the_option(refusal):
    opts = (*PLAIN, "DATASETS.TRAIN", "('birds_train',)")
    assert "--dataset birds_train=ANNOTATIONS.json:IMAGE_FOLDER" in refusal(MASK, opts=opts)


def test_a_lazy_config_names_own_data_itself(arguments, birds):
    args = arguments("--config-file", LAZY, *birds())
    with pytest.raises(UsageError, match="--dataset birds_train is used nowhere: a LazyConfig"):
        lazy.preflight(lazy.load_config(LAZY), args)
    lazy.preflight(lazy.load_config(LAZY, ["dataloader.train.dataset.names=birds_train"]), args)
    with pytest.raises(UsageError, match="--batch-size scales a YAML"):
        lazy.preflight(lazy.load_config(LAZY), arguments("--batch-size", "2"))


# --- the batch -----------------------------------------------------------------------------------


def test_a_smaller_batch_takes_a_lower_rate_for_longer(line):
    cfg, args = line(MASK, "--batch-size", 2)
    solver = cfg.SOLVER
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.MAX_ITER) == (2, 0.0025, 720000)
    assert (solver.STEPS, solver.WARMUP_ITERS) == ((480000, 640000), 8000)
    assert solver.CHECKPOINT_PERIOD == 40000
    assert solver.REFERENCE_WORLD_SIZE == 0  # or it would be scaled twice
    assert cfg.is_frozen()
    [note] = args.notes
    assert note.startswith("--batch-size 2: SOLVER.IMS_PER_BATCH 16 -> 2, SOLVER.BASE_LR 0.02 -> ")


def test_a_greater_batch_takes_a_higher_rate_for_shorter(line):
    solver = line(MASK, "--batch-size", 32, opts=(*PLAIN, "TEST.EVAL_PERIOD", 5000))[0].SOLVER
    assert (solver.BASE_LR, solver.MAX_ITER, solver.STEPS) == (0.04, 45000, (30000, 40000))


def test_every_key_is_scaled_but_what_is_given(line):
    whole = load_config(str(MASK), [*PLAIN, "TEST.EVAL_PERIOD", "600"])
    for key in SCALED:
        value = get(whole, key)
        cfg, args = line(MASK, "--batch-size", 8, opts=(*PLAIN, key, value))
        assert get(cfg, key) == value
        assert args.notes[0].endswith(f"{key} {value} as given")
        expected = scale_batch(whole, 8)
        for other in set(SCALED) - {key, "TEST.EVAL_PERIOD"}:
            assert get(cfg, other) == get(expected, other) != get(whole, other)


def test_the_configs_own_batch_changes_nothing(line):
    cfg, args = line(MASK, "--batch-size", 16)
    assert cfg == load_config(str(MASK), PLAIN)
    assert args.notes == ["--batch-size 16: the config has it already"]


@pytest.mark.parametrize("key", ["SOLVER.IMS_PER_BATCH", "SOLVER.REFERENCE_WORLD_SIZE"])
def test_a_batch_given_twice_is_told(refusal, key):
    message = refusal(MASK, "--batch-size", 2, opts=(*PLAIN, key, 8))
    assert "--batch-size 2" in message and key in message


def test_a_period_is_not_rounded_to_never():
    cfg = load_config(str(MASK), [*PLAIN, "TEST.EVAL_PERIOD", "1"])
    with pytest.raises(UsageError, match=r"TEST\.EVAL_PERIOD 1 would become 0"):
        scale_batch(cfg, 64)
    assert scale_batch(cfg, 64, ["TEST.EVAL_PERIOD"]).TEST.EVAL_PERIOD == 1


@pytest.mark.parametrize("words", [["0"], ["-2"], ["two"], ["2.5"]])
def test_a_batch_that_is_no_number_is_told(line, words, capsys):
    with pytest.raises(SystemExit):
        line(MASK, "--batch-size", *words)
    assert "expected a whole number of 1 or more" in capsys.readouterr().err


def test_a_batch_that_gpus_cannot_share_is_told(refusal, birds, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert "a batch of 6" in refusal(MASK, *birds(), "--num-gpus", 4, "--batch-size", 6)
    reference = (*PLAIN, "SOLVER.REFERENCE_WORLD_SIZE", 5)
    assert "a multiple of 5, SOLVER.REFERENCE_WORLD_SIZE" in refusal(MASK, *birds(), opts=reference)


# --- runs ----------------------------------------------------------------------------------------

THIN = [
    *PLAIN,
    *("MODEL.RESNETS.WIDTH_PER_GROUP", 4, "MODEL.RESNETS.RES2_OUT_CHANNELS", 16),
    *("INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64, "SOLVER.MAX_ITER", 1),
    *("SOLVER.STEPS", "()", "MODEL.BACKBONE.FREEZE_AT", 0, "TEST.DETECTIONS_PER_IMAGE", 4),
    *("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
]


def test_a_keypoint_model_is_trained_and_evaluated_on_own_data(line, birds, train_on, tmp_path):
    opts = (*THIN, "OUTPUT_DIR", tmp_path / "run")
    cfg, args = line(DEMO, *birds(), *birds("birds_val"), "--batch-size", 2, opts=opts)
    preflight(cfg, args)
    train_on(cfg, args)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert {"bbox/AP", "bbox/AP-owl", "keypoints/AP"} <= summary["results"].keys()
    log = (tmp_path / "run" / "log.txt").read_text()
    for note in args.notes:
        assert f"nl_detectron INFO: {note}" in log


@pytest.fixture
def train_on(monkeypatch):
    """Trains as each process of train_net.py does: with what pickling leaves of its arguments."""

    def run(cfg, args) -> Trainer:
        cfg, args = pickle.loads(pickle.dumps((cfg, args)))
        for name in [data.name for data in args.dataset]:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
        loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "nl_detectron")]
        before = [(log.level, log.propagate, log.handlers[:]) for log in loggers]
        try:
            start_run(cfg, args)
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=False)
            trainer.train()
        finally:
            for log, (level, log.propagate, log.handlers[:]) in zip(loggers, before, strict=True):
                log.setLevel(level)
        return trainer

    return run


def test_the_reference_world_size_of_detectron2_is_kept_to(tiny_config, train, tmp_path):
    solver = ("SOLVER.IMS_PER_BATCH", 4, "SOLVER.REFERENCE_WORLD_SIZE", 2, "SOLVER.BASE_LR", 0.002)
    cfg = tiny_config(tmp_path, *solver, "SOLVER.MAX_ITER", 1, "DATASETS.TEST", "()")
    trainer = train(cfg)
    assert trainer.max_iter == 2
    assert trainer.cfg.SOLVER.IMS_PER_BATCH == 2
    assert trainer.optimizer.defaults["lr"] == 0.001
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["iterations"] == 2
    assert "IMS_PER_BATCH: 2" in summary["config"] and "BASE_LR: 0.001" in summary["config"]
    log = (tmp_path / "log.txt").read_text()
    assert "Auto-scaling the config to batch_size=2, learning_rate=0.001, max_iter=2" in log


# --- evaluation maps classes and keypoints back to the file's ------------------------------------


def found_as_annotated(record: dict) -> Instances:
    """What a perfect model would find in an image, crowds apart."""
    annotations = [a for a in record["annotations"] if not a["iscrowd"]]
    found = Instances((record["height"], record["width"]))
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    found.pred_boxes = Boxes(torch.tensor(boxes).reshape(-1, 4))
    found.pred_classes = torch.tensor([a["category_id"] for a in annotations])
    found.scores = torch.ones(len(annotations))
    points = torch.tensor([a["keypoints"] for a in annotations], dtype=torch.float)
    found.pred_keypoints = points.reshape(len(annotations), -1, 3)
    return found


def test_a_perfect_model_has_an_ap_of_100(line, birds, tmp_path):
    opts = (*PLAIN, "OUTPUT_DIR", tmp_path / "run")
    cfg, _ = line(KEYPOINT, *birds(), *birds("birds_val"), opts=opts)
    evaluator = Trainer.build_evaluator(cfg, "birds_val")
    evaluator.reset()
    for record in DatasetCatalog.get("birds_val"):
        evaluator.process([record], [{"instances": found_as_annotated(copy.deepcopy(record))}])
    results = evaluator.evaluate()
    aps = [results["keypoints"]["AP"], *(results["bbox"][f"AP{of}"] for of in ("", "-owl", "-jay"))]
    assert aps == pytest.approx([100] * 4)
