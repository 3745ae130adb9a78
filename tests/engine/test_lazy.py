"""LazyConfigs: overrides, what they leave out, and mistakes in them."""

import runpy
import sys

import pytest
import torch
from config_kinds import ROOT

from nl_detectron.engine import Trainer, build_on_meta, lazy, load_config
from nl_detectron.errors import UsageError
from nl_detectron.modeling import find_blocks

DEMO = ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.py"

PLAIN = {bool, int, float, str, list, tuple, type(None)}


@pytest.fixture(autouse=True)
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


# --- overrides -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override, blocks",
    [
        ("model.backbone.after=[res3.1,res4.-1]", {"res3.nonlocal1", "res4.nonlocal5"}),
        ('model.backbone.after=["res3.*"]', {f"res3.nonlocal{i}" for i in range(4)}),
    ],
)
def test_an_override_reaches_the_model(override, blocks):
    model = build_on_meta(lazy.load_config(str(DEMO), [override]))
    assert set(find_blocks(model)) == {f"backbone.bottom_up.{name}" for name in blocks}


@pytest.mark.slow
@pytest.mark.parametrize(
    "override, in_head",
    [
        ("model.backbone.block.pairwise=gaussian", {"gaussian"}),
        ("model.roi_heads.keypoint_head.block.pairwise=gaussian", {"gaussian"}),
        ("model.backbone.block.reduction=4", {"embedded_gaussian"}),
    ],
)
def test_blocks_of_a_head_are_those_of_the_backbone_but_for_what_is_said(override, in_head):
    file = ROOT / "configs" / "COCO-Keypoints" / "keypoint_rcnn_R_50_FPN_nl_nlhead_1x.py"
    cfg = lazy.load_config(str(file), [override])
    blocks = find_blocks(build_on_meta(cfg))
    in_backbone = blocks.pop("backbone.bottom_up.res4.nonlocal4")
    assert len(blocks) == 4
    assert {block.pairwise_name for block in blocks.values()} == in_head
    assert {b.inner_channels for b in blocks.values()} == {
        512 // cfg.model.backbone.block.reduction
    }
    assert in_backbone.pairwise_name == cfg.model.backbone.block.pairwise


def test_a_checkpoint_of_the_optimizer_has_plain_values():
    run = lazy.describe_run(lazy.load_config(str(DEMO), []))
    state = run.build_optimizer(run.build_model("cpu")).state_dict()
    assert {type(v) for group in state["param_groups"] for v in group.values()} <= PLAIN


def test_a_new_key_is_added_where_it_is_asked_for():
    key = "model.roi_heads.box_predictor.test_nms_thresh"
    cfg = lazy.load_config(str(DEMO), [f"+{key}=0.25"])
    assert Trainer.build_model(cfg).roi_heads.box_predictor.test_nms_thresh == 0.25


def test_what_train_leaves_out_is_detectron2s(tmp_path):
    sections = "model = optimizer = lr_multiplier = dataloader = {'a': 1}"
    (tmp_path / "short.py").write_text(f"{sections}\ntrain = dict(max_iter=7)\n")
    options = lazy.load_config(str(tmp_path / "short.py")).train
    assert (options.max_iter, options.log_period, options.amp.enabled) == (7, 20, False)
    assert (options.amp.dtype, options.visualize.period) == ("float16", 0)


# --- a user's mistakes -----------------------------------------------------------------------

FILES = {
    "broken.py": "model = [1, 2",
    "raises.py": "model = 1 / 0",
    "misses.py": "from .nothing import model",
    "lacks.py": "train = dict(max_iter=3)\nmodel = dict(a=1)",
    "notes.txt": "model",
}


@pytest.mark.parametrize(
    "words, message",
    [
        ("nope.py", "'nope.py' does not exist"),
        ("broken.py", "broken.py' cannot be read: SyntaxError"),
        ("raises.py", "raises.py' cannot be read: ZeroDivisionError"),
        ("misses.py", "nothing.py does not exist"),
        ("lacks.py", "lacks optimizer, lr_multiplier, dataloader"),
        ("{demo} train.max_iter 3", "have the form key=value"),
        ("{demo} train.max_itre=3", "did you mean train.max_iter?"),
        ("{demo} mdel.backbone.after=[]", "did you mean model.backbone.after"),
        ("{demo} train.max_iter.now=3", "train.max_iter.now"),
        ("{demo} +train.max_iter.now=3", "train.max_iter is not a config"),
        ("{demo} train.max_iter=many", "expected a number, got 'many'"),
        ("{demo} train.amp.enabled=3", "expected True or False, got 3"),
        ("{demo} model.backbone=3", "expected a section, got 3"),
        ("{demo} model.backbone.after=res3.1,res4.1", "a list is [1,2]"),
        ("{demo} ~train.max_iter", "keys cannot be deleted"),
        ("{demo} train.max_iter=0", "train.max_iter: expected an integer above 0"),
        ("{demo} train.device=cuda", "no CUDA device"),
        ("{demo} model.backbone.after=[]", "is empty"),
        ("{demo} model.backbone.block.pairwise=cosine", "'cosine'"),
        ("{demo} +model.backbone.block.pairwse=gaussian", "pairwse"),
        ("{demo} dataloader.test.dataset.names=[relay_val,relay_train]", "expected one data set"),
    ],
)
def test_each_mistake_is_reported_in_one_line(words, message, tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    line = words.format(demo=DEMO).split()
    flags = [word for word in line if word.startswith("--")]
    others = [word for word in line if word not in flags]
    monkeypatch.setattr(sys, "argv", ["train_net.py", *flags, "--config-file", *others])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    assert isinstance(stop.value.code, str)
    assert stop.value.code.startswith("train_net.py: error: ")
    assert "\n" not in stop.value.code
    assert message in stop.value.code


def test_an_evaluation_needs_an_evaluator():
    cfg = lazy.load_config(str(DEMO))
    del cfg.dataloader["evaluator"]
    with pytest.raises(UsageError, match=r"--eval-only, but .* has no evaluator: add one"):
        lazy.describe_run(cfg).check(False)


def test_what_takes_a_yaml_says_so():
    with pytest.raises(UsageError, match="is a LazyConfig; give a YAML file here"):
        load_config(str(DEMO))
