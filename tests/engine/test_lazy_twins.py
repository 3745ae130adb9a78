"""LazyConfigs are equal to the YAML files of their names, in every value that a run has."""

import copy
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import DatasetMapper
from detectron2.layers import ShapeSpec
from detectron2.modeling.anchor_generator import build_anchor_generator
from fast_part import first_cases
from helpers import detections, make_batch, randomise
from omegaconf import DictConfig, ListConfig
from torch import nn

from nl_detectron.engine import (
    Checkpointer,
    Trainer,
    build_on_meta,
    describe_run,
    lazy,
    load_config,
    scale_batch,
)
from nl_detectron.engine.evaluation import predicted_tasks
from nl_detectron.modeling import find_blocks

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"
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


@first_cases(1, "name", TWINS)
def test_models_are_equal_in_every_value(name):
    cfg, yaml = twins(name)
    model, twin = build_on_meta(cfg), build_on_meta(yaml)
    # in order, too: an optimizer's state knows parameters by their number
    assert list(model.state_dict()) == list(twin.state_dict())
    found, expected = values(model), values(twin)
    # this default is said by the one and taken for granted by the other
    assert found.pop("._modules.roi_heads._modules.box_predictor.loss_weight.loss_cls") == 1
    assert found == expected
    assert len(found) > 5000


@first_cases(1, "name", TWINS)
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


@first_cases(1, "name", TWINS)
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


@first_cases(1, "name", TWINS)
def test_steps_are_equal(name):
    cfg, yaml = twins(name)
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    optimizer, twin = (Trainer.build_optimizer(either, model) for either in (cfg, yaml))
    assert [t.__name__ for t in type(optimizer).__mro__] == [t.__name__ for t in type(twin).__mro__]
    assert gradient_stepped(optimizer, model) == gradient_stepped(twin, model)
    for ours, theirs in zip(optimizer.param_groups, twin.param_groups, strict=True):
        same = ours.keys() - {"params", "foreach"}  # foreach: how, not what
        assert all(ours[key] == theirs[key] for key in same)
        assert [p.shape for p in ours["params"]] == [p.shape for p in theirs["params"]]

    assert_same_rates(cfg, yaml, optimizer, twin)


def assert_same_rates(
    cfg: DictConfig, yaml: CfgNode, optimizer: torch.optim.Optimizer, twin: torch.optim.Optimizer
) -> None:
    scheduler, twins_scheduler = (
        Trainer.build_lr_scheduler(either, of) for either, of in ((cfg, optimizer), (yaml, twin))
    )
    solver = yaml.SOLVER
    near = [edge + i for edge in (solver.WARMUP_ITERS, *solver.STEPS) for i in (-1, 0)]
    for iteration in [0, 1, *near, solver.MAX_ITER - 1]:
        scheduler.last_epoch = twins_scheduler.last_epoch = iteration
        assert scheduler.get_lr() == pytest.approx(twins_scheduler.get_lr(), rel=1e-9)


@first_cases(1, "name", TWINS)
@pytest.mark.parametrize("factor", [0.25, 2])
def test_another_batch_scales_them_alike(name, factor):
    batch = int(factor * describe_run(twins(name)[0]).batch_size)
    cfg, yaml = (scale_batch(twin, batch) for twin in twins(name))
    run, other = describe_run(cfg), describe_run(yaml)
    assert (run.batch_size, run.max_iter) == (other.batch_size, other.max_iter)
    assert run.checkpoints["period"] == other.checkpoints["period"]
    model = nn.Conv2d(1, 1, 1)
    assert_same_rates(cfg, yaml, run.build_optimizer(model), other.build_optimizer(model))


def test_blocks_have_the_same_rate():
    cfg, yaml = twins("Demo/relay_mask_rcnn_nl")
    rates = []
    for config in (cfg, yaml):
        model = build_on_meta(yaml)
        names = {id(p): name for name, p in model.named_parameters()}
        groups = Trainer.build_optimizer(config, model).param_groups
        rates.append({names[id(p)]: group["lr"] for group in groups for p in group["params"]})
    assert rates[0] == pytest.approx(rates[1])
    assert sorted(set(rates[0].values())) == pytest.approx([0.00012, 0.0012])


@first_cases(1, "name", TWINS)
def test_runs_are_equal(name):
    cfg, yaml = twins(name)
    run, other = describe_run(cfg), describe_run(yaml)
    for field in ("weights", "device", "max_iter", "batch_size", "eval_period", "log_period"):
        assert getattr(run, field) == getattr(other, field), field
    for field in ("amp", "amp_dtype", "output_dir", "train_sets", "test_sets", "num_classes"):
        assert getattr(run, field) == getattr(other, field), field
    assert (run.resize, run.visualize) == (other.resize, other.visualize)
    assert run.device == "cpu"  # there is no CUDA here
    assert run.checkpoints["period"] == other.checkpoints["period"]
    assert run.ddp.broadcast_buffers == other.ddp["broadcast_buffers"]
    assert run.best_metric() == other.best_metric()
    evaluator = cfg.dataloader.evaluator
    assert cfg.train.get("seed", -1) == yaml.SEED
    assert evaluator.tasks == list(predicted_tasks(yaml))
    assert evaluator.output_dir == f"./output/inference/{yaml.DATASETS.TEST[0]}"


@pytest.mark.parametrize("amp", [False, True])
def test_gradients_are_unscaled_before_they_are_clipped(amp):
    """A fused step would unscale them itself, after the clipping."""
    cfg, yaml = (copy.deepcopy(twin) for twin in twins("Demo/relay_mask_rcnn_nl"))
    cfg.train.amp.enabled = amp
    yaml.defrost()
    yaml.SOLVER.AMP.ENABLED = amp
    for either in (cfg, yaml):
        optimizer = Trainer.build_optimizer(either, nn.Linear(1, 1))
        assert [group["fused"] for group in optimizer.param_groups] == [not amp]


@pytest.mark.parametrize("build_first", ["lazy", "yaml"])
def test_each_loads_the_others_checkpoint(build_first, tmp_path):
    cfg, yaml = twins("Demo/relay_mask_rcnn_nl")
    model, other = Trainer.build_model(cfg), Trainer.build_model(yaml)
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
    batch = make_batch()
    found, expected = detections(other, batch), detections(model, batch)
    assert len(expected["0.scores"]) > 0
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
