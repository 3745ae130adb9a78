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
    ("SOLVER.BASE_LR", "-0.1", "a number of 0 to"),
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


def test_a_layer_that_cannot_be_made_is_one_message(tiny_config, tmp_path, arguments):
    cfg = tiny_config(tmp_path, "MODEL.ROI_BOX_HEAD.CONV_DIM", -1)
    with pytest.raises(UsageError, match="describes no model") as caught:
        preflight(cfg, arguments())
    assert "\n" not in str(caught.value)
