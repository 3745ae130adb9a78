"""Every config of images: it builds, its blocks stand where the paper puts them, and it changes
nothing else.

Models are built on the meta device, which has shapes and no memory.
"""

import re
from functools import cache
from pathlib import Path

import pytest
import torch
import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from fast_part import first_cases

from nl_detectron import add_nonlocal_config
from nl_detectron.layers import NonLocalBlock
from nl_detectron.modeling import build_model

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"

ALL = sorted(
    path.relative_to(CONFIGS).with_suffix("").as_posix()
    for path in CONFIGS.rglob("*.yaml")
    if not path.name.startswith("Base") and path.parent.name not in ("Kinetics", "Charades")
)
COCO = [name for name in ALL if not name.startswith("Demo/")]
NONLOCAL = [name for name in COCO if "_nl" in name]
BASELINES = [name for name in COCO if "_nl" not in name]
LONG = [name for name in COCO if name.endswith("_3x") and "_X_101_" not in name]  # X101 is 3x alone
BASES = [  # that Detectron2 has, too
    *("Base-RCNN-FPN", "Base-RCNN-C4", "Base-RCNN-DilatedC5", "Base-RetinaNet"),
    "COCO-Keypoints/Base-Keypoint-RCNN-FPN",
    "COCO-PanopticSegmentation/Base-Panoptic-FPN",
]

NONLOCAL_KEYS = (
    *("MODEL.NONLOCAL.", "MODEL.BACKBONE.NAME", "SOLVER.NONLOCAL_LR_FACTOR"),
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "MODEL.ROI_MASK_HEAD.NAME"),
)
SCHEDULE_KEYS = {"SOLVER.STEPS", "SOLVER.MAX_ITER"}
FINETUNE_KEYS = {*SCHEDULE_KEYS, "MODEL.WEIGHTS", "SOLVER.BASE_LR"}
SCHEDULES = {"1x": ((60000, 80000), 90000), "3x": ((210000, 250000), 270000)}
SCHEDULES["finetune"] = ((15000,), 20000)

# right before the last residual block of res4 (Sec. 4.1)
ONE_BLOCK = {"R_50": "res4.4", "R_101": "res4.21", "X_101": "res4.21", "X_152": "res4.34"}
# after every 2 of 8 convs (Table 6), and of 4
HEADS = {"keypoint": ("keypoint_head", (2, 4, 6, 8)), "mask": ("mask_head", (2, 4))}
ABLATION_PLACES = {  # Tables 2b and 2c, blocks counted from 0
    "R_50_FPN_nl_res2": ["res2.1"],
    "R_50_FPN_nl_res3": ["res3.2"],
    "R_50_FPN_nl_res4": ["res4.4"],
    "R_50_FPN_nl_res5": ["res5.1"],
    "R_50_FPN_nl_5blocks": ["res3.1", "res3.3", "res4.1", "res4.3", "res4.5"],
    "R_101_FPN_nl_5blocks": ["res3.1", "res3.3", "res4.6", "res4.13", "res4.20"],
    "R_50_FPN_nl_10blocks": [f"res3.{i}" for i in range(4)] + [f"res4.{i}" for i in range(6)],
    "R_101_FPN_nl_10blocks": [f"res3.{i}" for i in range(4)]
    + [f"res4.{i}" for i in (3, 6, 10, 13, 17, 20)],
}
PAIRWISE = ("dot_product", "concatenation", "embedded_gaussian", "gaussian")

# Baselines that Detectron2 lacks: its nearest config, and the keys that may differ. X152's
# weights have absorbed the pixel std (detectron2's ModelCatalog), X101's have not.
X152_KEYS = {"MODEL.WEIGHTS", "MODEL.RESNETS.DEPTH", "MODEL.PIXEL_STD"}
NOT_IN_ZOO = {
    "COCO-Detection/faster_rcnn_R_101_FPN_1x": (
        "COCO-Detection/faster_rcnn_R_101_FPN_3x",
        SCHEDULE_KEYS,
    ),
    "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_1x": (
        "COCO-InstanceSegmentation/mask_rcnn_R_101_FPN_3x",
        SCHEDULE_KEYS,
    ),
    "COCO-Keypoints/keypoint_rcnn_R_101_FPN_1x": (
        "COCO-Keypoints/keypoint_rcnn_R_101_FPN_3x",
        SCHEDULE_KEYS,
    ),
    "COCO-InstanceSegmentation/mask_rcnn_X_152_32x8d_FPN_1x": (
        "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x",
        X152_KEYS | SCHEDULE_KEYS,
    ),
    "COCO-InstanceSegmentation/mask_rcnn_X_152_32x8d_FPN_3x": (
        "COCO-InstanceSegmentation/mask_rcnn_X_101_32x8d_FPN_3x",
        X152_KEYS,
    ),
}


def test_there_are_configs_of_every_kind():
    assert NONLOCAL and BASELINES and LONG
    assert {name.split("/")[0] for name in COCO} == {
        "COCO-Detection",
        "COCO-InstanceSegmentation",
        "COCO-Keypoints",
        "COCO-PanopticSegmentation",
        "Misc",
        "Ablations",
    }


@first_cases(2, "name", ALL)
def test_builds(name):
    shapes, _ = build(name)
    assert any(key.startswith("backbone.") for key in shapes)


@first_cases(4, "name", COCO)
def test_blocks_stand_at_the_papers_places_and_nowhere_else(name):
    _, blocks = build(name)
    assert set(blocks) == expected_blocks(name)


@first_cases(3, "name", NONLOCAL)
def test_pairwise_function_is_the_one_in_the_name(name):
    _, blocks = build(name)
    named = next((f for f in PAIRWISE if f"_nl_{f}_" in name), "embedded_gaussian")
    assert set(blocks.values()) == {named}


@pytest.mark.parametrize("name", NONLOCAL)
def test_nonlocal_config_differs_from_its_twin_in_nonlocal_keys_only(name):
    changed = differences(load(name), load(twin(name)))
    assert changed and all(key.startswith(NONLOCAL_KEYS) for key in changed)


@first_cases(3, "name", NONLOCAL)
def test_nonlocal_model_holds_every_tensor_of_its_twin(name):
    shapes, blocks = build(name)
    twin_shapes, _ = build(twin(name))
    assert twin_shapes.items() <= shapes.items()
    added = shapes.keys() - twin_shapes.keys()
    assert all(key.rpartition(".")[0].startswith(tuple(blocks)) for key in added)


@pytest.mark.parametrize("name", NONLOCAL)
def test_nonlocal_file_sets_nonlocal_keys_over_its_twin(name):
    base, keys = read_file(name)
    assert base == twin(name)
    assert all(key.startswith(NONLOCAL_KEYS) for key in keys)


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_file_sets_its_schedule_over_another(name):
    base, keys = read_file(name)
    if name in LONG:
        assert (base, keys) == (one_x(name), SCHEDULE_KEYS)
    elif name.endswith("_finetune"):
        assert (base, keys) == (three_x(name), FINETUNE_KEYS)
    else:
        assert Path(base).name.startswith("Base-")


@pytest.mark.parametrize("name", BASELINES)
def test_baseline_equals_detectron2s_own_config(name):
    zoo_name, expected = NOT_IN_ZOO.get(name, (name, set()))
    if name.endswith("_finetune"):
        zoo_name, expected = three_x(name), FINETUNE_KEYS
    assert differences(load(name), load_zoo(zoo_name)) == expected


@pytest.mark.parametrize("base", BASES)
def test_base_equals_detectron2s_own_base(base):
    assert differences(load(base), load_zoo(base)) == set()


def test_x152_backbone_is_that_of_detectron2s_cascade_mask_rcnn():
    ours = load("COCO-InstanceSegmentation/mask_rcnn_X_152_32x8d_FPN_1x").MODEL
    theirs = load_zoo("Misc/cascade_mask_rcnn_X_152_32x8d_FPN_IN5k_gn_dconv").MODEL
    assert differences(ours.RESNETS, theirs.RESNETS) == {"DEFORM_ON_PER_STAGE"}
    for key in ("WEIGHTS", "PIXEL_MEAN", "PIXEL_STD"):
        assert ours[key] == theirs[key]


@pytest.mark.parametrize("name", COCO)
def test_schedule_is_the_one_in_the_name(name):
    solver = load(name).SOLVER
    schedule = (solver.STEPS, solver.MAX_ITER)
    assert schedule == SCHEDULES[name.rpartition("_")[2]]


@pytest.mark.parametrize("name", LONG)
def test_3x_differs_from_1x_in_schedule_only(name):
    assert differences(load(name), load(one_x(name))) == SCHEDULE_KEYS


@pytest.mark.parametrize(
    ("row", "model"),
    [
        ("R_50_FPN_nl_embedded_gaussian_1x", "R_50_FPN_nl_1x"),
        ("R_50_FPN_nl_res4_1x", "R_50_FPN_nl_1x"),
        ("R_50_FPN_nl_1block_1x", "R_50_FPN_nl_1x"),
        ("R_101_FPN_nl_1block_1x", "R_101_FPN_nl_1x"),
    ],
)
def test_default_row_of_an_ablation_is_the_main_model(row, model):
    ablation = load(f"Ablations/mask_rcnn_{row}")
    main = load(f"COCO-InstanceSegmentation/mask_rcnn_{model}")
    assert differences(ablation, main) == set()


def file_of(name: str) -> Path:
    return CONFIGS / f"{name}.yaml"


def twin(name: str) -> str:
    """The same model without blocks."""
    plain = re.sub(r"_nl.*(?=_[13]x$|_finetune$)", "", name)
    return plain.replace("Ablations/", "COCO-InstanceSegmentation/")


def one_x(name: str) -> str:
    return name.removesuffix("3x") + "1x"


def three_x(name: str) -> str:
    return name.removesuffix("finetune") + "3x"


def expected_blocks(name: str) -> set[str]:
    """Module names of the blocks, from the config's file name alone."""
    kind, model = re.search(r"/(.+?)_((?:R|X)_\d+.*)_([13]x|finetune)$", name).group(1, 2)
    backbone = next(b for b in ONE_BLOCK if model.startswith(b))
    if model in ABLATION_PLACES:
        places = ABLATION_PLACES[model]
    else:
        places = [ONE_BLOCK[backbone]] if "_nl_" in f"{model}_" else []
    resnet = "backbone" if re.search("_D?C[45]", model) else "backbone.bottom_up"
    stages = {f"{resnet}.{p.replace('.', '.nonlocal')}" for p in places}
    head, convs = HEADS[kind.split("_")[0]] if "nlhead" in model else ("", ())
    return stages | {f"roi_heads.{head}.nonlocal{conv}" for conv in convs}


def load_file(path: str | Path) -> CfgNode:
    cfg = get_cfg()
    add_nonlocal_config(cfg)
    cfg.merge_from_file(str(path))
    return cfg


@cache
def load(name: str) -> CfgNode:
    return load_file(file_of(name))


@cache
def load_zoo(name: str) -> CfgNode:
    return load_file(model_zoo.get_config_file(f"{name}.yaml"))


@cache
def build(name: str) -> tuple[dict[str, torch.Size], dict[str, str]]:
    """The shape of each tensor by name, and the pairwise function of each block by name."""
    cfg = load(name).clone()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    shapes = {key: tensor.shape for key, tensor in model.state_dict().items()}
    modules = model.named_modules()
    blocks = {key: m.pairwise_name for key, m in modules if isinstance(m, NonLocalBlock)}
    return shapes, blocks


def read_file(name: str) -> tuple[str, set[str]]:
    """The name of a file's base and the keys it sets itself."""
    own = yaml.safe_load(file_of(name).read_text())
    base = (file_of(name).parent / own.pop("_BASE_")).resolve()
    base_name = base.relative_to(CONFIGS.resolve()).with_suffix("").as_posix()
    return base_name, set(flatten(own))


def flatten(node: dict, prefix: str = "") -> dict[str, object]:
    flat = {}
    for key, value in node.items():
        inner = flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else None
        flat.update(inner if inner else {f"{prefix}{key}": value})
    return flat


def differences(a: CfgNode, b: CfgNode) -> set[str]:
    """Keys whose values differ, or that only one of the two has."""
    a, b = flatten(a), flatten(b)
    missing = object()
    return {key for key in a.keys() | b.keys() if a.get(key, missing) != b.get(key, missing)}
