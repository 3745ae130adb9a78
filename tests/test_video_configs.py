"""Every video config: it builds, its blocks stand where the paper puts them, and it changes
nothing else. Models are built on the meta device, which has shapes and no memory."""

import re
from functools import cache
from unittest import mock

import pytest
from fast_part import first_cases
from helpers import CONFIGS
from test_configs import differences, read_file

from nl_detectron.engine import build_on_meta, load_config
from nl_detectron.model_zoo.index import shipped
from nl_detectron.modeling import find_blocks

EVERY = sorted(
    file.relative_to(CONFIGS).with_suffix("").as_posix()
    for folder in ("Kinetics", "Charades")
    for file in (CONFIGS / folder).glob("*.yaml")
    if not file.name.startswith("Base")
)
CONVERTED = [name for name in EVERY if "converted" in shipped().get(name, {})]
ALL = [name for name in EVERY if name not in CONVERTED]
NONLOCAL = [name for name in ALL if "_nl" in name]
FORMS = ("gaussian", "dot_product", "concatenation")
STAGES = {"res2": ["res2.1"], "res3": ["res3.2"], "res5": ["res5.1"]}
FIVE = {
    "R_50": ["res3.1", "res3.3", "res4.1", "res4.3", "res4.5"],
    "R_101": ["res3.1", "res3.3", "res4.6", "res4.13", "res4.20"],
}
TEN = {"R_50": range(6), "R_101": (3, 6, 10, 13, 17, 20)}  # res4's, besides all four of res3
LONG = {"128x1", "32x4"}
LONG_KEYS = {
    *("MODEL.WEIGHTS", "MODEL.RESNETS.NORM", "MODEL.NONLOCAL.NORM", "INPUT.VIDEO.FRAMES"),
    *("MODEL.NONLOCAL.FRAMES_PER_GROUP", "INPUT.VIDEO.RATE", "SOLVER.BASE_LR"),
    "SOLVER.IMS_PER_BATCH",
}


@cache
def load(name):
    return load_config(str(CONFIGS / f"{name}.yaml"))


@cache
def build(name):
    drawn = ("kaiming_normal_", "kaiming_uniform_", "normal_", "uniform_")
    with mock.patch.multiple("torch.nn.init", **dict.fromkeys(drawn, mock.DEFAULT)):  # slow on meta
        return build_on_meta(load(name))


def parts_of(name):
    """Architecture, depth, what ``nl`` is followed by (None without blocks) and the clip."""
    pattern = r"\w+/(c2d|i3d|i3d_3x3x3)_(R_\d+)(?:_(nl\w*?))?(?:_trainval)?_(\d+x\d)"
    return re.fullmatch(pattern, name).groups()


def expected_places(depth, blocks):
    if not blocks:
        return []
    if blocks.startswith("nl5"):
        return FIVE[depth]
    if blocks == "nl10":
        return [f"res3.{n}" for n in range(4)] + [f"res4.{n}" for n in TEN[depth]]
    return STAGES.get(blocks.removeprefix("nl_"), [{"R_50": "res4.4", "R_101": "res4.21"}[depth]])


def test_all_rows_of_the_papers_tables_are_there():
    assert len(ALL) == 39 and set(EVERY) == {
        n for n in shipped() if n.split("/")[0] in ("Kinetics", "Charades")
    }


@first_cases(2, "name", ALL)
def test_model_is_the_one_in_the_name(name):
    arch, depth, blocks, clip = parts_of(name)
    cfg = load(name)
    model = build(name)
    assert cfg.MODEL.VIDEO.ARCH == {"i3d": "i3d_3x1x1"}.get(arch, arch)
    assert len(model.backbone.res4) == {"R_50": 6, "R_101": 23}[depth] + sum(
        place.startswith("res4") for place in expected_places(depth, blocks)
    )
    frames, rate = map(int, clip.split("x"))
    assert (cfg.INPUT.VIDEO.FRAMES, cfg.INPUT.VIDEO.RATE) == (frames, rate)
    assert cfg.MODEL.VIDEO.STRIDES == ("8x8" if clip in ("8x8", "32x4") else "paper")
    found = find_blocks(model)
    places = expected_places(depth, blocks)
    assert set(found) == {f"backbone.{place.replace('.', '.nonlocal')}" for place in places}
    for place, block in found.items():
        form = (blocks or "").removeprefix("nl_")
        assert block.pairwise_name == (form if form in FORMS else "embedded_gaussian")
        axis = blocks.rpartition("_")[2]
        assert block.axes == (axis if axis in ("space", "time") else "spacetime")
        assert block.frames_per_group == (4 if clip in LONG and "res3" in place else 0)
        assert (block.norm is None) == (clip in LONG)


@pytest.mark.parametrize("name", NONLOCAL)
def test_nonlocal_config_differs_from_its_twin_in_nonlocal_keys_only(name):
    twin = shipped()[name]["twin"]
    assert twin == re.sub(r"_nl\w*?(?=(_trainval)?_\d+x\d$)", "", name) and "_nl" not in twin
    changed = differences(load(name), load(twin))
    allowed = {"MODEL.WEIGHTS"} if name.startswith("Charades") else set()
    allowed |= {f"MODEL.NONLOCAL.{key}" for key in ("BACKBONE.AFTER", "PAIRWISE", "AXES")}
    assert "MODEL.NONLOCAL.BACKBONE.AFTER" in changed and changed <= allowed


@pytest.mark.parametrize("name", ALL)
def test_file_sets_its_own_keys_over_another(name):
    base, keys = read_file(name)
    _, _, blocks, clip = parts_of(name)
    if "_trainval" in name:
        assert keys == {"DATASETS.TRAIN", "DATASETS.TEST"}
    elif name.startswith("Charades"):
        own = {"MODEL.NONLOCAL.BACKBONE.AFTER"} if blocks else set()
        assert keys == {"MODEL.WEIGHTS", *own}
    elif blocks:
        assert all(key.startswith("MODEL.NONLOCAL.") for key in keys) and len(keys) <= 2
    elif clip in LONG:
        assert keys == LONG_KEYS and base.endswith("_32x2" if clip == "128x1" else "_8x8")
    else:
        assert len(keys) <= 3
    assert base == "Kinetics/Base-Kinetics" or len(differences(load(name), load(base))) <= 8


@pytest.mark.parametrize("name", ALL)
def test_schedule_and_data_are_the_papers(name):
    cfg, clip = load(name), parts_of(name)[3]
    solver = cfg.SOLVER
    if name.startswith("Charades"):
        expected = (8, 0.00125, (75000, 150000), 200000)
        assert (cfg.MODEL.VIDEO.NUM_CLASSES, cfg.MODEL.VIDEO.MULTI_LABEL) == (157, True)
        assert (cfg.INPUT.VIDEO.CROP_SIZE, cfg.TEST.VIDEO.SHORT_SIDE) == (288, 320)
    else:
        batch, rate = (16, 0.0025) if clip in LONG else (64, 0.01)
        expected = (batch, rate, (150000, 300000), 400000)
        assert (cfg.MODEL.VIDEO.NUM_CLASSES, cfg.MODEL.VIDEO.MULTI_LABEL) == (400, False)
        assert (cfg.DATASETS.TRAIN, cfg.DATASETS.TEST) == (
            *(("kinetics400_train",), ("kinetics400_val",)),
        )
    assert (solver.IMS_PER_BATCH, solver.BASE_LR, solver.STEPS, solver.MAX_ITER) == expected
    assert (solver.MOMENTUM, solver.NESTEROV, solver.WEIGHT_DECAY) == (0.9, True, 1e-4)
    assert (solver.WEIGHT_DECAY_NORM, solver.WARMUP_ITERS, cfg.MODEL.VIDEO.DROPOUT) == (0, 0, 0.5)
    assert (cfg.TEST.PRECISE_BN.ENABLED, cfg.TEST.PRECISE_BN.NUM_ITER) == (True, 200)
    long = clip in LONG or name.startswith("Charades")
    assert cfg.MODEL.RESNETS.NORM == ("FrozenBN" if long else "BN")
    assert cfg.MODEL.WEIGHTS.startswith("output/" if long else "detectron2://ImageNetPretrained/")


@first_cases(1, "name", [name for name in ALL if load(name).MODEL.WEIGHTS[0] == "o"])
def test_long_clips_start_from_a_model_that_a_config_trains(name):
    folder = load(name).MODEL.WEIGHTS.split("/")[1]
    shapes = build(name).state_dict()
    trained = build(f"Kinetics/{folder}").state_dict()
    blocks = tuple(find_blocks(build(name)))
    for key, tensor in shapes.items():
        same = key in trained and trained[key].shape == tensor.shape
        # the classifier of other classes is new, and so are blocks over a model without any
        assert same or key.startswith(("linear.", *blocks)), key


@first_cases(1, "name", CONVERTED)
def test_a_config_of_another_project_differs_in_what_the_project_computes(name):
    allowed = {"MODEL.VIDEO.POOL1", "MODEL.VIDEO.STRIDES"}
    if name.endswith("_mmaction2"):
        allowed |= {"MODEL.PIXEL_MEAN", "MODEL.PIXEL_STD", "TEST.VIDEO.FULLY_CONV"}
        allowed |= {f"MODEL.NONLOCAL.{key}" for key in ("PAIRWISE", "SUBSAMPLE", "USE_SCALE")}
    plain = re.sub(r"_(gaussian|dot_product)(?=_)|_[a-z0-9]+$", "", name)
    assert {"MODEL.VIDEO.POOL1"} <= differences(load(name), load(plain)) <= allowed
    build(name)
