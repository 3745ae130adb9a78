"""LazyConfigs: equal to the YAMLs of their names, and run by the same command line."""

import copy
import json
import runpy
import shutil
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.data import DatasetMapper
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from detectron2.solver import LRMultiplier
from helpers import detections, made_up_batch, randomise
from omegaconf import DictConfig, ListConfig
from torch import nn

from nl_detectron.engine import Checkpointer, Trainer, build_on_meta, lazy, load_config
from nl_detectron.engine.evaluation import best_metric, predicted
from nl_detectron.errors import UsageError
from nl_detectron.modeling import find_blocks

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
DEMO = CONFIGS / "Demo" / "relay_mask_rcnn_nl.py"
TWINS = sorted(
    path.relative_to(CONFIGS).with_suffix("").as_posix()
    for path in CONFIGS.rglob("*.py")
    if path.parent.name != "common"
)


@pytest.fixture(autouse=True)
def no_cuda(request, monkeypatch):
    if "gpu" in request.keywords:
        return
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@cache
def twins(name: str) -> tuple[DictConfig, CfgNode]:
    file = CONFIGS / name
    return lazy.load_config(f"{file}.py"), load_config(f"{file}.yaml")


def values(thing: object, path: str = "") -> dict[str, object]:
    """Every plain value within an object, by its path."""
    if isinstance(thing, torch.Tensor):
        return {path: thing.shape}
    if isinstance(thing, Mapping):
        inner = thing.items()
    elif isinstance(thing, list | tuple | ListConfig):
        inner = enumerate(thing)
    elif hasattr(thing, "__qualname__"):  # a function or a type
        return {path: thing.__qualname__}
    elif hasattr(thing, "__dict__"):
        inner = [("type", type(thing).__qualname__), *vars(thing).items()]
    else:
        return {path: thing if isinstance(thing, str | int | float | None) else repr(thing)}
    return {k: v for name, value in inner for k, v in values(value, f"{path}.{name}").items()}


# --- equal twins -----------------------------------------------------------------------------


def test_there_are_twins_of_every_kind():
    assert {name.split("/")[0] for name in TWINS} == {
        "COCO-InstanceSegmentation",
        "COCO-Keypoints",
        "Demo",
    }


@pytest.mark.parametrize("name", TWINS)
def test_models_are_equal_in_every_value(name):
    cfg, yaml = twins(name)
    with torch.device("meta"):
        model = instantiate(cfg.model)
    twin = build_on_meta(yaml)
    # in order, too: an optimizer's state knows parameters by their number
    assert list(model.state_dict()) == list(twin.state_dict())
    found, expected = values(model), values(twin)
    # this default is said by the one and taken for granted by the other
    assert found.pop("._modules.roi_heads._modules.box_predictor.loss_weight.loss_cls") == 1
    assert found == expected
    assert len(found) > 5000


@pytest.mark.parametrize("name", TWINS)
def test_anchors_and_pixels_are_equal(name):
    cfg, yaml = twins(name)
    generator = instantiate(cfg.model.proposal_generator.anchor_generator)
    twin = build_anchor_generator(yaml, [ShapeSpec(stride=s) for s in generator.strides])
    pairs = zip(generator.cell_anchors, twin.cell_anchors, strict=True)
    assert all(torch.equal(*pair) for pair in pairs)
    assert generator.strides == twin.strides
    assert (cfg.model.pixel_mean, cfg.model.pixel_std) == (
        yaml.MODEL.PIXEL_MEAN,
        yaml.MODEL.PIXEL_STD,
    )


@pytest.mark.parametrize("name", TWINS)
def test_data_is_equal(name):
    cfg, yaml = twins(name)
    data, heads = cfg.dataloader, yaml.MODEL.ROI_KEYPOINT_HEAD
    train, test = data.train, data.test
    assert values(instantiate(train.mapper)) == values(DatasetMapper(yaml, is_train=True))
    mapper, twin = instantiate(test.mapper), DatasetMapper(yaml, is_train=False)
    assert (mapper.is_train, mapper.image_format) == (twin.is_train, twin.image_format)
    (resize,), (expected,) = mapper.augmentations.augs, twin.augmentations.augs
    for key in ("short_edge_length", "max_size"):  # from 800 to 800, or 800 or 800
        assert getattr(resize, key) == getattr(expected, key)
    assert ([train.dataset.names], [test.dataset.names]) == (
        list(yaml.DATASETS.TRAIN),
        list(yaml.DATASETS.TEST),
    )
    least = heads.MIN_KEYPOINTS_PER_IMAGE if yaml.MODEL.KEYPOINT_ON else 0
    assert train.dataset.get("min_keypoints", 0) == least
    assert not test.dataset.filter_empty
    assert train.total_batch_size == yaml.SOLVER.IMS_PER_BATCH
    assert train.num_workers == test.num_workers == yaml.DATALOADER.NUM_WORKERS


def gradient_stepped(optimizer: torch.optim.Optimizer, model: nn.Module) -> float:
    """What a large gradient is by the time of the step: clipped or not."""
    weight = model[0].weight
    weight.grad = torch.full_like(weight, 100.0)
    optimizer.step()
    return weight.grad.norm().item()


@pytest.mark.parametrize("name", TWINS)
def test_steps_are_equal(name):
    cfg, yaml = twins(name)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    optimizer, twin = lazy.build_optimizer(cfg, model), Trainer.build_optimizer(yaml, model)
    assert [t.__name__ for t in type(optimizer).__mro__] == [t.__name__ for t in type(twin).__mro__]
    assert gradient_stepped(optimizer, model) == gradient_stepped(twin, model)
    for ours, theirs in zip(optimizer.param_groups, twin.param_groups, strict=True):
        same = ours.keys() - {"params", "foreach"}  # foreach: how, not what
        assert all(ours[key] == theirs[key] for key in same)
        assert [p.shape for p in ours["params"]] == [p.shape for p in theirs["params"]]

    last, solver = cfg.train.max_iter, yaml.SOLVER
    assert last == solver.MAX_ITER
    scheduler = LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), last)
    twins_scheduler = Trainer.build_lr_scheduler(yaml, twin)
    near = [edge + i for edge in (solver.WARMUP_ITERS, *solver.STEPS) for i in (-1, 0)]
    for iteration in [0, 1, *near, last - 1]:
        scheduler.last_epoch = twins_scheduler.last_epoch = iteration
        assert scheduler.get_lr() == pytest.approx(twins_scheduler.get_lr(), rel=1e-9)


def test_blocks_have_the_same_rate():
    cfg, yaml = twins("Demo/relay_mask_rcnn_nl")
    rates = []
    for build, config in ((lazy.build_optimizer, cfg), (Trainer.build_optimizer, yaml)):
        model = build_on_meta(yaml)
        names = {id(p): name for name, p in model.named_parameters()}
        groups = build(config, model).param_groups
        rates.append({names[id(p)]: group["lr"] for group in groups for p in group["params"]})
    assert rates[0] == pytest.approx(rates[1])
    assert sorted(set(rates[0].values())) == pytest.approx([0.0003, 0.0012])


@pytest.mark.parametrize("name", TWINS)
def test_runs_are_equal(name):
    cfg, yaml = twins(name)
    run, evaluator = cfg.train, cfg.dataloader.evaluator
    assert run.init_checkpoint == yaml.MODEL.WEIGHTS
    assert run.eval_period == yaml.TEST.EVAL_PERIOD
    assert run.checkpointer.period == yaml.SOLVER.CHECKPOINT_PERIOD
    assert run.amp.enabled == yaml.SOLVER.AMP.ENABLED
    assert run.get("seed", -1) == yaml.SEED
    assert run.output_dir == yaml.OUTPUT_DIR
    assert run.device == yaml.MODEL.DEVICE == "cpu"  # there is no CUDA here
    assert evaluator.tasks == list(predicted(yaml))
    assert lazy.best_metric(cfg) == best_metric(yaml)
    assert evaluator.output_dir == f"./output/inference/{yaml.DATASETS.TEST[0]}"


@pytest.mark.parametrize("amp", [False, True])
def test_gradients_are_unscaled_before_they_are_clipped(amp):
    """A fused step would unscale them itself, after the clipping."""
    cfg, yaml = (copy.deepcopy(twin) for twin in twins("Demo/relay_mask_rcnn_nl"))
    cfg.train.amp.enabled = amp
    yaml.defrost()
    yaml.SOLVER.AMP.ENABLED = amp
    for optimizer in (
        lazy.build_optimizer(cfg, nn.Linear(1, 1)),
        Trainer.build_optimizer(yaml, nn.Linear(1, 1)),
    ):
        assert [group["fused"] for group in optimizer.param_groups] == [not amp]


@pytest.mark.parametrize("build_first", ["lazy", "yaml"])
def test_each_loads_the_others_checkpoint(build_first, tmp_path):
    cfg, yaml = twins("Demo/relay_mask_rcnn_nl")
    model, other = lazy.build_model(cfg), Trainer.build_model(yaml)
    if build_first == "yaml":
        model, other = other, model
    for block in find_blocks(model).values():
        randomise(block, std=0.03)  # with more, an untrained model's scores underflow
    for either in (model, other):  # untrained, it is sure of nothing
        either.roi_heads.box_predictor.test_score_thresh = 0.0
    torch.save({"model": model.state_dict()}, tmp_path / "model.pth")
    checkpointer = Checkpointer(other)
    checkpointer.load(str(tmp_path / "model.pth"))
    assert not checkpointer.fresh and not checkpointer.unused
    batch = made_up_batch()
    found, expected = detections(other, batch), detections(model, batch)
    assert len(expected["0.scores"]) > 0
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


# --- runs ------------------------------------------------------------------------------------

TINY = [
    *("dataloader.train.dataset.names=tiny_train", "dataloader.test.dataset.names=tiny_val"),
    "dataloader.train.mapper.augmentations.0.short_edge_length=[64]",
    "dataloader.test.mapper.augmentations.0.short_edge_length=64",
    *("dataloader.train.total_batch_size=2", "lr_multiplier.warmup_length=0"),
    "lr_multiplier.scheduler.end_value=1.0",
    *("train.device=cpu", "model.roi_heads.box_predictor.test_score_thresh=0.0"),
]
# what tests of the YAML make thinner, as it is
WIDE = ("MODEL.RESNETS.WIDTH_PER_GROUP", 16, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
SAME = (*WIDE, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0)


def train_net(*words) -> None:
    """The command line, in this process: an import of torch takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train_net.py", *map(str, words)])
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")


@pytest.fixture(scope="module")
def run(tiny_relay, loggers_left_alone):
    """Runs the Demo config on tiny data: ``run(folder, *overrides, words=...)``."""

    def go(folder, *overrides, words=()) -> None:
        with loggers_left_alone():
            output = f"train.output_dir={folder}"
            train_net(*words, "--config-file", DEMO, *TINY, output, *overrides)

    return go


@pytest.fixture(scope="module")
def trained(run, train, tiny_config, tmp_path_factory):
    """The folders of two runs of 2 iterations: ``lazy`` and ``yaml``."""
    folder = tmp_path_factory.mktemp("runs")
    run(folder / "lazy", "train.max_iter=2")
    train(tiny_config(folder / "yaml", "SOLVER.MAX_ITER", 2, *SAME))
    return SimpleNamespace(lazy=folder / "lazy", yaml=folder / "yaml")


def files(folder: Path) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*.*")}
    return {name.split(".tfevents.")[0] for name in names}


def told(folder: Path, name: str = "summary.json") -> dict:
    return json.loads((folder / name).read_text())


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return torch.load(folder / "model_final.pth", weights_only=False)["model"]


def equal(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return some.keys() == others.keys() and all(torch.equal(some[k], others[k]) for k in some)


@pytest.mark.slow
def test_a_run_is_that_of_the_yaml(trained):
    assert files(trained.lazy) == files(trained.yaml) >= {"model_best.pth", "summary.json"}
    assert equal(weights(trained.lazy), weights(trained.yaml))
    ours, theirs = told(trained.lazy), told(trained.yaml)
    assert ours.keys() == theirs.keys()
    for key in ("results", "iterations", "device", "versions"):
        assert ours[key] == theirs[key]


@pytest.mark.slow
def test_the_saved_config_describes_the_model_that_ran(trained):
    text = (trained.lazy / "config.yaml").read_text()
    assert text == told(trained.lazy)["config"]
    cfg = LazyConfig.load(str(trained.lazy / "config.yaml"))
    with torch.device("meta"):
        model = instantiate(cfg.model)
    assert model.state_dict().keys() == weights(trained.lazy).keys()


@pytest.mark.slow
def test_an_evaluation_repeats_the_end_of_training(trained, run, tmp_path):
    run(tmp_path, f"train.init_checkpoint={trained.yaml}/model_final.pth", words=["--eval-only"])
    assert told(tmp_path, "evaluation.json")["results"] == told(trained.lazy)["results"]
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.slow
def test_a_run_goes_on_with_either_kind_of_config(trained, run, train, tiny_config, tmp_path):
    shutil.copytree(trained.yaml, tmp_path / "lazy")
    run(tmp_path / "lazy", "train.max_iter=3", words=["--resume"])
    shutil.copytree(trained.lazy, tmp_path / "yaml")
    trainer = train(tiny_config(tmp_path / "yaml", "SOLVER.MAX_ITER", 3, *SAME), "--resume")
    assert trainer.start_iter == 2
    assert equal(weights(tmp_path / "lazy"), weights(tmp_path / "yaml"))
    assert not equal(weights(tmp_path / "lazy"), weights(trained.lazy))
    state = torch.load(tmp_path / "lazy" / "model_final.pth", weights_only=False)["trainer"]
    assert state["iteration"] == 2
    assert max(int(s["step"]) for s in state["_trainer"]["optimizer"]["state"].values()) == 3


@pytest.mark.gpu
def test_a_run_in_mixed_precision_leaves_its_files(run, tmp_path):
    run(tmp_path, "train.device=cuda", "train.amp.enabled=True", "train.max_iter=2")
    assert (tmp_path / "model_final.pth").exists()
    assert told(tmp_path)["device"] == "cuda"
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path).values())


# --- overrides -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "override, blocks",
    [
        ("model.backbone.after=[res3.1,res4.-1]", {"res3.nonlocal1", "res4.nonlocal5"}),
        ('model.backbone.after=["res3.*"]', {f"res3.nonlocal{i}" for i in range(4)}),
    ],
)
def test_an_override_reaches_the_model(override, blocks):
    model = lazy.build_model(lazy.load_config(str(DEMO), [override]))
    assert set(find_blocks(model)) == {f"backbone.bottom_up.{name}" for name in blocks}


@pytest.mark.parametrize(
    "override, in_head",
    [
        ("model.backbone.block.pairwise=gaussian", {"gaussian"}),
        ("model.roi_heads.keypoint_head.block.pairwise=gaussian", {"gaussian"}),
        ("model.backbone.block.reduction=4", {"embedded_gaussian"}),
    ],
)
def test_blocks_of_a_head_are_those_of_the_backbone_but_for_what_is_said(override, in_head):
    file = CONFIGS / "COCO-Keypoints" / "keypoint_rcnn_R_50_FPN_nl_nlhead_1x.py"
    cfg = lazy.load_config(str(file), [override])
    with torch.device("meta"):
        blocks = find_blocks(instantiate(cfg.model))
    in_backbone = blocks.pop("backbone.bottom_up.res4.nonlocal4")
    assert len(blocks) == 4
    assert {block.pairwise_name for block in blocks.values()} == in_head
    assert {b.inner_channels for b in blocks.values()} == {
        512 // cfg.model.backbone.block.reduction
    }
    assert in_backbone.pairwise_name == cfg.model.backbone.block.pairwise


def test_a_new_key_is_added_where_it_is_asked_for():
    key = "model.roi_heads.box_predictor.test_nms_thresh"
    cfg = lazy.load_config(str(DEMO), [f"+{key}=0.25"])
    assert lazy.build_model(cfg).roi_heads.box_predictor.test_nms_thresh == 0.25


def test_what_train_leaves_out_is_detectron2s(tmp_path):
    sections = "model = optimizer = lr_multiplier = dataloader = {'a': 1}"
    (tmp_path / "short.py").write_text(f"{sections}\ntrain = dict(max_iter=7)\n")
    options = lazy.load_config(str(tmp_path / "short.py")).train
    assert (options.max_iter, options.log_period, options.amp.enabled) == (7, 20, False)


# --- a user's mistakes -----------------------------------------------------------------------

FILES = {
    "broken.py": "model = [1, 2",
    "raises.py": "model = 1 / 0",
    "misses.py": "from .nothing import model",
    "lacks.py": "train = dict(max_iter=3)\nmodel = dict(a=1)",
    "notes.txt": "model",
}


@pytest.mark.parametrize(
    "words, said",
    [
        ("nope.py", "'nope.py' does not exist"),
        ("broken.py", "broken.py' cannot be read: SyntaxError"),
        ("raises.py", "raises.py' cannot be read: ZeroDivisionError"),
        ("misses.py", "nothing.py does not exist"),
        ("lacks.py", "lacks optimizer, lr_multiplier, dataloader"),
        ("{demo} train.max_iter 3", "come as key=value"),
        ("{demo} train.max_itre=3", "did you mean train.max_iter?"),
        ("{demo} mdel.backbone.after=[]", "did you mean model.backbone.after"),
        ("{demo} train.max_iter.now=3", "train.max_iter.now"),
        ("{demo} +train.max_iter.now=3", "train.max_iter is not a config"),
        ("{demo} train.max_iter=many", "expected a number, got 'many'"),
        ("{demo} train.amp.enabled=3", "expected True or False, got 3"),
        ("{demo} model.backbone=3", "expected a section, got 3"),
        ("{demo} model.backbone.after=res3.1,res4.1", "a list is [1,2]"),
        ("{demo} ~train.max_iter", "nothing is deleted"),
        ("{demo} train.max_iter=0", "train.max_iter: expected an integer above 0"),
        ("{demo} train.device=cuda", "no CUDA device"),
        ("{demo} train.amp.dtype=fp16", "train.amp.dtype: expected one of float16"),
        ("{demo} --num-gpus=2", "to run 2 processes on the CPU, set train.device to cpu"),
        ("{demo} --num-gpus=3 train.device=cpu", "total_batch_size is 8: expected a multiple of 3"),
        (
            "{demo} --num-gpus=2 train.device=cpu model.backbone.block.norm=SyncBN",
            "res4.nonlocal4.norm is a SyncBN",
        ),
        ("{demo} model.backbone.after=[res9.0]", "there is no 'res9.0'"),
        ("{demo} model.backbone.after=[]", "is empty"),
        ("{demo} model.backbone.block.pairwise=cosine", "'cosine'"),
        ("{demo} +model.backbone.block.pairwse=gaussian", "pairwse"),
        ("{demo} dataloader.train.dataset.names=relay_trian", "relay_train"),
        ("{demo} dataloader.test.dataset.names=[relay_val,relay_train]", "expected one data set"),
        ("{demo} train.init_checkpoint=nope.pth", "'nope.pth' does not exist"),
        ("{demo} --eval-only", "--eval-only needs train.init_checkpoint"),
    ],
)
def test_each_mistake_is_told_in_one_line(words, said, tmp_path, monkeypatch):
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    line = words.format(demo=DEMO).split()
    flags = [word for word in line if word.startswith("--")]
    with pytest.raises(SystemExit) as stop:
        train_net(*flags, "--config-file", *(word for word in line if word not in flags))
    assert isinstance(stop.value.code, str)
    assert stop.value.code.startswith("train_net.py: error: ")
    assert "\n" not in stop.value.code
    assert said in stop.value.code


def test_what_takes_a_yaml_says_so():
    with pytest.raises(UsageError, match=r"is a LazyConfig, which train_net\.py alone takes"):
        load_config(str(DEMO))
