"""What a published checkpoint says about its run: the config, the results, how it differed."""

from pathlib import Path

import pytest
from detectron2.config import CfgNode

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo.run_record import find_overrides, select_metrics, strip_config

ROOT = Path(__file__).parents[1]
DEMO = "Demo/relay_mask_rcnn_nl"


def demo(*words) -> CfgNode:
    return load_config(str(ROOT / f"configs/{DEMO}.yaml"), list(map(str, words)))


def test_a_run_at_another_scale_tells_how_it_differed():
    half = ("SOLVER.IMS_PER_BATCH", 4, "SOLVER.MAX_ITER", 1400, "SEED", 5)
    expected = {"SOLVER.IMS_PER_BATCH": 4, "SOLVER.MAX_ITER": 1400, "SEED": 5}
    assert find_overrides(DEMO, demo(*half), 1400) == expected
    assert find_overrides(DEMO, demo(), 700) == {}


@pytest.mark.parametrize(
    ("words", "iterations", "said"),
    [
        (("INPUT.MIN_SIZE_TEST", 64), 700, "INPUT.MIN_SIZE_TEST 64, not 96"),
        (("MODEL.NONLOCAL.PAIRWISE", "gaussian"), 700, "PAIRWISE gaussian, not embedded_gaussian"),
        (("DATASETS.TEST", "('mine',)"), 700, r"DATASETS.TEST \['mine'\], not \['relay_val'\]"),
        ((), 600, r"4,800 images \(iterations times batch\), not 5,600"),
    ],
)
def test_a_run_that_is_not_of_the_config_is_refused_its_name(words, iterations, said):
    with pytest.raises(
        UsageError, match=f"this run is not one of {DEMO}: .*{said}. Give it a --name"
    ):
        find_overrides(DEMO, demo(*words), iterations)


def test_results_on_the_first_of_several_test_sets_are_published():
    cfg = demo("DATASETS.TEST", "('one', 'two')")
    results = {"one/bbox/AP": 1.0, "one/bbox/AP-cat": 2.0, "two/bbox/AP": 3.0}
    assert select_metrics({"results": results}, cfg) == {"bbox/AP": 1.0}


def test_folders_are_left_out_of_a_config():
    config = {
        "OUTPUT_DIR": "/home/someone/run",
        "MODEL": {"DEVICE": "cuda", "WEIGHTS": "runs/of/mine/model_final.pth"},
        "DATASETS": {"PROPOSAL_FILES_TEST": ["~/proposals/val.pkl", "val"], "TEST": ["birds_val"]},
    }
    clean, changed = strip_config(config)
    assert clean == {
        "MODEL": {"WEIGHTS": "model_final.pth"},
        "DATASETS": {"PROPOSAL_FILES_TEST": ["val.pkl", "val"], "TEST": ["birds_val"]},
    }
    assert changed == [
        *("OUTPUT_DIR", "MODEL.DEVICE", "MODEL.WEIGHTS", "DATASETS.PROPOSAL_FILES_TEST"),
    ]
    config["MODEL"]["WEIGHTS"] = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
    assert strip_config(config)[0]["MODEL"]["WEIGHTS"] == config["MODEL"]["WEIGHTS"]
