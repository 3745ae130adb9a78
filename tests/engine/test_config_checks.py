"""Values that a config key cannot have are one message: the key, what is expected, the value."""

import pytest
from coco_files import DEMO, LAZY, PLAIN
from detectron2.config import CfgNode, get_cfg

from nl_detectron import add_nonlocal_config
from nl_detectron.engine import load_config, load_run, preflight
from nl_detectron.engine.config_checks import LAZY_CHECKS, YAML_CHECKS, check_config
from nl_detectron.engine.config_files import config_keys
from nl_detectron.errors import UsageError

YAML_VALUES = [
    ("SOLVER.MAX_ITER", "0", "an integer above 0"),
    ("SOLVER.MAX_ITER", "-5", "an integer above 0"),
    ("SOLVER.MAX_ITER", "None", "an integer above 0"),
    ("SOLVER.IMS_PER_BATCH", "0", "an integer above 0"),
    ("SOLVER.IMS_PER_BATCH", "-2", "an integer above 0"),
    ("SOLVER.CHECKPOINT_PERIOD", "0", "an integer above 0"),
    ("SOLVER.BASE_LR", "1e999", "finite numbers"),
    ("SOLVER.BASE_LR", "-0.1", "a number above 0"),
    ("SOLVER.BASE_LR", "0.0", "a number above 0"),
    ("SOLVER.BASE_LR_END", "-0.1", "a number of 0 to"),
    ("SOLVER.BIAS_LR_FACTOR", "-1.0", "a number of 0 to 1e+06, or None"),
    ("SOLVER.WEIGHT_DECAY_BIAS", "-0.1", "a number of 0 to 1e+06, or None"),
    ("SOLVER.WEIGHT_DECAY_BIAS", "'a'", "a number of 0 to 1e+06, or None"),
    ("SOLVER.NUM_DECAYS", "0", "an integer above 0"),
    ("SOLVER.RESCALE_INTERVAL", "None", "True or False"),
    ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "0.0", "a number above 0, or inf"),
    ("TEST.EXPECTED_RESULTS", "['bbox']", "[task, metric, value, tolerance]"),
    ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP']]", "[task, metric, value, tolerance]"),
    ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 'a', 1]]", "[task, metric, value, tolerance]"),
    ("TEST.AUG.MIN_SIZES", "()", "a list of integers above 0"),
    ("TEST.AUG.MAX_SIZE", "0", "an integer above 0"),
    ("DATASETS.PRECOMPUTED_PROPOSAL_TOPK_TRAIN", "0", "an integer above 0"),
    ("MODEL.PROPOSAL_GENERATOR.MIN_SIZE", "-5", "a number of 0 to"),
    ("MODEL.RPN.BBOX_REG_LOSS_TYPE", "foo", "smooth_l1, giou, diou, ciou"),
    ("MODEL.RPN.BBOX_REG_WEIGHTS", "(1.0,)", "four numbers above 0"),
    ("MODEL.RPN.BOUNDARY_THRESH", "None", "a number of -1 to"),
    ("MODEL.RPN.CONV_DIMS", "[0]", "a list of integers above 0, or -1"),
    ("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", "(0,)", "a list of integers above 0"),
    ("MODEL.RPN.SMOOTH_L1_BETA", "-1.0", "a number of 0 to"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_TYPE", "foo", "smooth_l1, giou, diou, ciou"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_LOSS_WEIGHT", "None", "a number of 0 to"),
    ("MODEL.ROI_BOX_HEAD.BBOX_REG_WEIGHTS", "(0.0, 0.0, 5.0, 5.0)", "four numbers above 0"),
    ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "0", "an integer above 0"),
    ("MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "-1", "an integer of 0 or more"),
    ("MODEL.ROI_BOX_HEAD.NUM_FC", "-1", "an integer of 0 to 1,000"),
    ("MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "0", "an integer above 0"),
    ("MODEL.ROI_MASK_HEAD.CONV_DIM", "0", "an integer above 0"),
    ("MODEL.ROI_BOX_HEAD.CONV_DIM", "0", "an integer above 0"),
    ("MODEL.ROI_BOX_HEAD.FC_DIM", "0", "an integer above 0"),
    ("MODEL.PIXEL_MEAN", "[1.0, 2.0]", "a number for each channel of INPUT.FORMAT"),
    ("MODEL.PIXEL_STD", "[1.0]", "a number for each channel of INPUT.FORMAT"),
    ("SOLVER.BASE_LR", "None", "a number"),
    ("SOLVER.STEPS", "(5, 3)", "increasing integers"),
    ("SOLVER.STEPS", "(-1,)", "increasing integers"),
    ("SOLVER.STEPS", "('a',)", "increasing integers"),
    ("SOLVER.WARMUP_ITERS", "-1", "an integer of 0 or more"),
    ("SOLVER.WARMUP_FACTOR", "-0.5", "a number of 0 to 1"),
    ("SOLVER.WARMUP_METHOD", "cubic", "linear, constant"),
    ("SOLVER.LR_SCHEDULER_NAME", "Cosine", "WarmupCosineLR"),
    ("SOLVER.NONLOCAL_LR_FACTOR", "1e30", "a number of 0 to 1000"),
    ("SOLVER.NONLOCAL_PAIRWISE_LR_FACTOR", "None", "a number of 0 to 1000"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_TYPE", "twice", "value, norm"),
    ("SOLVER.AMP.ENABLED", "None", "True or False"),
    ("DATALOADER.NUM_WORKERS", "-1", "an integer of 0 or more"),
    ("DATALOADER.MAX_BAD_SAMPLES", "-1", "an integer of 0 or more"),
    ("MODEL.ROI_BOX_HEAD.NUM_FC", "2147483647", "an integer of 0 to 1,000"),
    ("MODEL.RETINANET.NUM_CONVS", "1000000", "an integer of 0 to 1,000"),
    ("DATALOADER.SAMPLER_TRAIN", "Sampler", "TrainingSampler"),
    ("DATASETS.TRAIN", "(1,)", "a list of names"),
    ("DATASETS.TEST", "None", "a list of names"),
    ("INPUT.MIN_SIZE_TRAIN", "()", "one or more integers"),
    ("INPUT.MIN_SIZE_TRAIN", "(-5,)", "one or more integers"),
    ("INPUT.MIN_SIZE_TRAIN", "(9.5,)", "one or more integers"),
    ("INPUT.MAX_SIZE_TRAIN", "0", "an integer above 0"),
    ("INPUT.MIN_SIZE_TEST", "-1", "an integer of 0 or more"),
    ("INPUT.FORMAT", "HSV", "BGR, RGB"),
    ("INPUT.MASK_FORMAT", "png", "polygon, bitmask"),
    ("INPUT.RANDOM_FLIP", "diagonal", "horizontal, vertical, none"),
    ("INPUT.CROP.SIZE", "[0.9]", "two numbers above 0"),
    ("MODEL.DEVICE", "gpu", "cpu, cuda"),
    ("MODEL.DEVICE", "mps", "cpu, cuda"),
    ("MODEL.DEVICE", "None", "cpu, cuda"),
    ("MODEL.PIXEL_STD", "[0.0, 1.0, 1.0]", "numbers above 0"),
    ("MODEL.PIXEL_STD", "[]", "numbers above 0"),
    ("MODEL.PIXEL_MEAN", "['a', 'b', 'c']", "a list of numbers"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "[]", "numbers above 0 for each level"),
    ("MODEL.ANCHOR_GENERATOR.SIZES", "[[], [32]]", "numbers above 0 for each level"),
    ("MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS", "[[0.0]]", "numbers above 0 for each level"),
    ("MODEL.NONLOCAL.REDUCTION", "None", "an integer above 0"),
    ("MODEL.NONLOCAL.REDUCTION", "0", "an integer above 0"),
    ("MODEL.NONLOCAL.USE_SCALE", "None", "True or False"),
    ("MODEL.ROI_HEADS.NUM_CLASSES", "0", "an integer above 0"),
    ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", "5.0", "a number of 0 to 1"),
    ("TEST.EVAL_PERIOD", "-1", "an integer of 0 or more"),
    ("TEST.KEYPOINT_OKS_SIGMAS", "[0.0]", "numbers above 0, or []"),
    ("VISUALIZE.PERIOD", "None", "an integer of 0 or more"),
    ("OUTPUT_DIR", "None", "a string"),
    ("SEED", "99999999999", "negative for a random seed"),
]
CROP = "INPUT.CROP.SIZE"
# Values that do not fit the other ones: the overrides, the key that is reported, what is expected.
RELATIONS = [
    (
        "MODEL.KEYPOINT_ON False TEST.EXPECTED_RESULTS [['keypoints','AP',40.2,1.0]]",
        "TEST.EXPECTED_RESULTS",
        "tasks that are evaluated: bbox, segm if MODEL.MASK_ON, keypoints if MODEL.KEYPOINT_ON",
    ),
    (
        "SOLVER.LR_SCHEDULER_NAME WarmupCosineLR SOLVER.BASE_LR_END 5.0",
        "SOLVER.BASE_LR_END",
        "at most SOLVER.BASE_LR, as SOLVER.LR_SCHEDULER_NAME is WarmupCosineLR, got 5.0",
    ),
    (
        "INPUT.MIN_SIZE_TRAIN_SAMPLING range INPUT.MIN_SIZE_TRAIN (64,)",
        "INPUT.MIN_SIZE_TRAIN",
        "two sizes, the smaller first, as INPUT.MIN_SIZE_TRAIN_SAMPLING is range, got (64,)",
    ),
    (
        "INPUT.MIN_SIZE_TRAIN_SAMPLING range INPUT.MIN_SIZE_TRAIN (80,64)",
        "INPUT.MIN_SIZE_TRAIN",
        "got (80, 64)",
    ),
    (f"INPUT.CROP.ENABLED True {CROP} [1.5,0.5]", CROP, "of at most 1, as INPUT.CROP.TYPE is rel"),
    (f"INPUT.CROP.ENABLED True INPUT.CROP.TYPE relative {CROP} [1,2]", CROP, "of at most 1"),
    (f"INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute {CROP} [9.5,9]", CROP, "two integers of"),
    (f"INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute_range {CROP} [9,8]", CROP, "the largest"),
]
GOOD = [
    "SOLVER.LR_SCHEDULER_NAME WarmupMultiStepLR SOLVER.BASE_LR_END 5.0",
    "INPUT.MIN_SIZE_TRAIN_SAMPLING range INPUT.MIN_SIZE_TRAIN (64,80)",
    f"INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute {CROP} [90,80]",
    f"INPUT.CROP.ENABLED True INPUT.CROP.TYPE absolute_range {CROP} [80,90]",
    f"{CROP} [384,600]",
    "INPUT.FORMAT L MODEL.PIXEL_MEAN [1.0] MODEL.PIXEL_STD [1.0]",
    "INPUT.FORMAT L",
    "SOLVER.WEIGHT_DECAY_BIAS 0.0 SOLVER.BIAS_LR_FACTOR 2.0",
    "TEST.EXPECTED_RESULTS [['bbox','AP',40.2,1.0]]",
]
LAZY_VALUES = [
    ("train.max_iter=0", "an integer above 0"),
    ("train.checkpointer.period=0", "an integer above 0"),
    ("train.log_period=0", "an integer above 0"),
    ("train.device=gpu", "cpu, cuda"),
    ("train.max_bad_samples=-1", "an integer of 0 or more"),
    ("train.allow_outside_images=null", "True or False"),
    ("dataloader.train.total_batch_size=0", "an integer above 0"),
    ("dataloader.train.num_workers=-1", "an integer of 0 or more"),
    ("dataloader.train.mapper.augmentations.0.short_edge_length=[]", "one or more integers"),
    ("dataloader.test.mapper.augmentations.0.short_edge_length=-5", "one or more integers"),
    ("optimizer.lr=nan", "a number"),
    ("optimizer.lr=0", "a number above 0"),
    ("optimizer.params.lr_factor_func.pairwise_factor=1e30", "a number of 0 to 1000"),
    ("lr_multiplier.warmup_length=-1", "a number of 0 to 1"),
    ("model.pixel_std=[0,1,1]", "numbers above 0"),
    ("model.proposal_generator.anchor_generator.sizes=[]", "numbers above 0 for each level"),
    ("model.roi_heads.num_classes=0", "an integer above 0"),
]


@pytest.mark.parametrize(("key", "value", "expected"), YAML_VALUES)
def test_a_value_of_a_yaml_file_that_cannot_be_is_reported(key, value, expected):
    with pytest.raises(UsageError) as caught:
        load_config(str(DEMO), [*PLAIN, key, value])
    message = str(caught.value)
    assert message.startswith(f"{key}: expected ") and expected in message
    assert ", got " in message and "\n" not in message


@pytest.mark.parametrize(("words", "key", "expected"), RELATIONS)
def test_a_value_that_does_not_fit_another_one_is_reported(words, key, expected):
    with pytest.raises(UsageError) as caught:
        load_config(str(DEMO), [*PLAIN, *words.split()])
    message = str(caught.value)
    assert message.startswith(f"{key}: expected ") and expected in message


@pytest.mark.parametrize("words", GOOD)
def test_values_that_fit_pass(words):
    load_config(str(DEMO), [*PLAIN, *words.split()])


@pytest.mark.parametrize(
    ("sampler", "key", "good", "bad"),
    [
        ("RandomSubset", "DATALOADER.RANDOM_SUBSET_RATIO", 0.5, [0.0, 1.5, "a"]),
        (
            "Weighted",
            "DATASETS.TRAIN_REPEAT_FACTOR",
            [("a", 2.0)],
            [5, [("b", 1.0)], [("a", -1)], ["a"]],
        ),
    ],
)
def test_a_sampler_needs_a_key_that_code_has_to_add(sampler, key, good, bad):
    cfg = load_config(str(DEMO), PLAIN)
    cfg.defrost()
    cfg.DATASETS.TRAIN = ("a",)
    cfg.DATALOADER.SAMPLER_TRAIN = f"{sampler}TrainingSampler"
    with pytest.raises(UsageError, match=rf"SAMPLER_TRAIN: {sampler}TrainingSampler needs {key}"):
        check_config(cfg)
    section, name = key.split(".")
    cfg[section][name] = good
    check_config(cfg)
    for value in bad:
        cfg[section][name] = value
        with pytest.raises(UsageError, match=f"{key}: expected "):
            check_config(cfg)


@pytest.mark.parametrize(("override", "expected"), LAZY_VALUES)
def test_a_value_of_a_lazy_config_that_cannot_be_is_reported(override, expected):
    with pytest.raises(UsageError) as caught:
        load_run(LAZY, ["train.device=cpu", override])
    message = str(caught.value)
    assert message.startswith(f"{override.split('=')[0]}: expected ") and expected in message


def test_a_value_in_place_of_a_section_is_one_message():
    with pytest.raises(UsageError, match="Type mismatch") as caught:
        load_config(str(DEMO), [*PLAIN, "MODEL.NONLOCAL", "(1,)"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_numbers_of_yaml_that_are_not_finite_are_reported(value, tmp_path):
    (tmp_path / "config.yaml").write_text(f"SOLVER:\n  BIAS_LR_FACTOR: {value}\n")
    with pytest.raises(UsageError, match=r"SOLVER\.BIAS_LR_FACTOR: expected finite numbers"):
        load_config(str(tmp_path / "config.yaml"))


def test_defaults_pass_and_every_key_exists():
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    check_config(cfg)
    keys = [key for keys in YAML_CHECKS.values() for key in keys]
    assert set(keys) <= set(config_keys(cfg)) and len(set(keys)) == len(keys)
    lazy = [key for keys in LAZY_CHECKS.values() for key in keys]
    assert len(set(lazy)) == len(lazy)


def test_a_config_of_code_is_checked_before_a_run(tiny_config, tmp_path, arguments):
    cfg = tiny_config(tmp_path).clone()
    cfg.defrost()
    cfg.merge_from_other_cfg(CfgNode({"SOLVER": {"MAX_ITER": 0}}))
    with pytest.raises(UsageError, match=r"SOLVER\.MAX_ITER: expected an integer above 0, got 0"):
        preflight(cfg, arguments())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("SOLVER.OPTIMIZER", "SGD", "SOLVER.NESTEROV", True, "SOLVER.MOMENTUM", 0.0),
            "describes no training: ValueError: Nesterov momentum requires a momentum",
        ),
        (("SOLVER.STEPS", "(1, 1)"), "describes no training: ValueError: "),
    ],
)
def test_an_optimizer_or_schedule_that_cannot_be_made_is_one_message(
    override_refusal, words, message
):
    assert message in override_refusal(*words)


def test_augmentations_that_cannot_be_made_are_one_message(tiny_of_kind, tmp_path, arguments):
    cfg = tiny_of_kind("lazy", tmp_path)
    cfg.dataloader.train.mapper.augmentations[0].sample_style = "all"
    with pytest.raises(UsageError, match="describes no training samples: AssertionError: all"):
        preflight(cfg, arguments())


def test_a_layer_that_cannot_be_made_is_one_message(tiny_config, tmp_path, arguments):
    cfg = tiny_config(tmp_path, "MODEL.RESNETS.RES5_DILATION", 3)
    with pytest.raises(UsageError, match="describes no model") as caught:
        preflight(cfg, arguments())
    assert "\n" not in str(caught.value)
