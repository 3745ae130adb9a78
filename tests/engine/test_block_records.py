"""A checkpoint of other blocks stops what would mean nothing, and says what would fit it."""

import logging
import shlex

import pytest
import torch
from fast_part import first_cases
from helpers import tiny_cfg, with_blocks

from nl_detectron.engine import Checkpointer, load_model, preflight
from nl_detectron.engine.block_records import KEY, describe_blocks
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model

BLOCK = "backbone.bottom_up.res4.nonlocal4"
NONLOCAL = "MODEL.NONLOCAL"
# trained with, used with, part of the message and the overrides that fit
MISMATCHES = {
    "pairwise": (
        [],
        [f"{NONLOCAL}.PAIRWISE", "dot_product"],
        "pairwise 'embedded_gaussian', this model's 'dot_product'",
        [f"{NONLOCAL}.PAIRWISE", "embedded_gaussian"],
    ),
    "subsample": (
        [f"{NONLOCAL}.SUBSAMPLE", "after"],
        [],
        "subsample 'after', this model's 'before'",
        [f"{NONLOCAL}.SUBSAMPLE", "after"],
    ),
    "scale": (
        [f"{NONLOCAL}.USE_SCALE", "False"],
        [],
        "use_scale False, this model's True",
        [f"{NONLOCAL}.USE_SCALE", "False"],
    ),
    "reduction": (
        [f"{NONLOCAL}.REDUCTION", "4"],
        [],
        "reduction 4, this model's 2",
        [f"{NONLOCAL}.REDUCTION", "4"],
    ),
    "norm": (
        [],
        [f"{NONLOCAL}.NORM", "BN"],
        "norm '', this model's 'BN'",
        [f"{NONLOCAL}.NORM", ""],
    ),
    "place": (
        [],
        [f"{NONLOCAL}.BACKBONE.AFTER", "['res3.1']"],
        f"it has trained {BLOCK}, which this model lacks",
        [f"{NONLOCAL}.BACKBONE.AFTER", "['res4.4']"],
    ),
    "none": (
        [],
        ["MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", f"{NONLOCAL}.BACKBONE.AFTER", "[]"],
        f"it has trained {BLOCK}, which this model lacks",
        [
            *("MODEL.BACKBONE.NAME", "build_nonlocal_resnet_fpn_backbone"),
            *(f"{NONLOCAL}.BACKBONE.AFTER", "['res4.4']"),
        ],
    ),
}


@pytest.fixture(scope="module")
def save(tiny_config, tmp_path_factory):
    """Saves a model's checkpoint: of today, or as before there were descriptions."""

    def run(overrides, old=False) -> str:
        folder = tmp_path_factory.mktemp("blocks")
        cfg = tiny_config(folder, *overrides)
        Checkpointer(build_model(cfg), str(folder)).save("model_final")
        if old:
            content = torch.load(folder / "model_final.pth")
            del content[KEY]
            torch.save(content, folder / "model_final.pth")
            (folder / "model_final.pth.sha256").unlink()
        return str(folder / "model_final.pth")

    return run


def suggested(message: str) -> list[str]:
    return shlex.split(message.rsplit("To fit it: ", 1)[1])


@pytest.mark.slow
@first_cases(2, "name", MISMATCHES)
def test_a_mismatch_is_an_error_with_the_overrides_that_fit(
    name, save, tiny_config, arguments, tmp_path
):
    trained, used, expected, fitting = MISMATCHES[name]
    weights = save(trained)
    cfg = tiny_config(tmp_path / "run", *used, "MODEL.WEIGHTS", weights)
    with pytest.raises(UsageError, match=r"other non-local blocks") as caught:
        load_model(cfg)
    message = str(caught.value)
    assert expected in message and "\n" not in message
    assert suggested(message) == fitting
    load_model(tiny_config(tmp_path / "run", *used, *fitting, "MODEL.WEIGHTS", weights))
    with pytest.raises(UsageError, match="other non-local blocks"):
        preflight(cfg, arguments("--eval-only"))
    preflight(cfg, arguments())  # a training may start from it
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["reduction", "norm", "place", "none"])
def test_tensors_decide_for_an_old_checkpoint(name, save, tiny_config, tmp_path):
    trained, used, _, _ = MISMATCHES[name]
    weights = save(trained, old=True)
    with pytest.raises(UsageError, match="other non-local blocks"):
        load_model(tiny_config(tmp_path, *used, "MODEL.WEIGHTS", weights))
    load_model(tiny_config(tmp_path, *trained, "MODEL.WEIGHTS", weights))


def test_a_form_with_other_tensors_is_seen_in_an_old_checkpoint(save, tiny_config, tmp_path):
    weights = save([], old=True)
    cfg = tiny_config(tmp_path, f"{NONLOCAL}.PAIRWISE", "gaussian", "MODEL.WEIGHTS", weights)
    with pytest.raises(UsageError, match=rf"{BLOCK}\.\S+ is \(\d.*\) there and absent here"):
        load_model(cfg)


@pytest.mark.parametrize(
    ("trained", "used"),
    [
        ([f"{NONLOCAL}.NORM", "naiveSyncBN"], [f"{NONLOCAL}.NORM", "BN"]),  # one in evaluation
        (
            [f"{NONLOCAL}.PAIRWISE", "dot_product", f"{NONLOCAL}.USE_SCALE", "False"],
            [f"{NONLOCAL}.PAIRWISE", "dot_product"],  # which has no scale
        ),
    ],
)
def test_what_computes_the_same_is_no_mismatch(trained, used, save, tiny_config, tmp_path):
    load_model(tiny_config(tmp_path, *used, "MODEL.WEIGHTS", save(trained)))


@pytest.mark.slow
def test_a_training_warns_loudly_and_starts(save, tiny_config, train, tmp_path, caplog):
    weights = save([])
    used = [*MISMATCHES["none"][1], "MODEL.WEIGHTS", weights, "SOLVER.MAX_ITER", 1]
    with caplog.at_level(logging.WARNING):
        train(tiny_config(tmp_path, *used))
    warned = (tmp_path / "log.txt").read_text()
    assert "OTHER NON-LOCAL BLOCKS: it has trained" in warned and "To fit it: MODEL" in warned


def test_a_run_cannot_be_resumed_with_another_form(trained, tiny_config, arguments):
    cfg = tiny_config(trained.folder, f"{NONLOCAL}.PAIRWISE", "dot_product")
    written = (trained.folder / "config.yaml").read_bytes()
    with pytest.raises(UsageError, match=r"--resume: .*\.PAIRWISE is 'embedded_gaussian' there"):
        preflight(cfg, arguments("--resume"))
    assert (trained.folder / "config.yaml").read_bytes() == written


def test_blocks_of_heads_are_described_too():
    model = build_model(with_blocks(tiny_cfg(task="keypoint"), ["res3.1"], [2, 4], NORM="BN"))
    described = describe_blocks(model)
    head = "roi_heads.keypoint_head.nonlocal"
    assert list(described) == ["backbone.bottom_up.res3.nonlocal1", f"{head}2", f"{head}4"]
    assert described[f"{head}2"] == {
        "pairwise": "embedded_gaussian",
        "reduction": 2,
        "subsample": "before",
        "norm": "BN",
        "use_scale": True,
    }


@pytest.mark.slow
def test_a_lazy_config_gets_overrides_of_its_kind(tiny_of_kind, tmp_path):
    cfg = tiny_of_kind("yaml", tmp_path / "yaml")
    Checkpointer(build_model(cfg), str(tmp_path)).save("wide")
    lazy = tiny_of_kind("lazy", tmp_path / "lazy", weights=tmp_path / "wide.pth")
    load_model(lazy)
    lazy.model.backbone.block.subsample = "after"
    with pytest.raises(UsageError, match=r"To fit it: model\.backbone\.block\.subsample=before$"):
        load_model(lazy)
