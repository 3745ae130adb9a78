"""Pictures in TensorBoard's file, and a training that does not notice them."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from config_kinds import KINDS
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from fast_part import first_cases
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from nl_detectron.engine import Trainer, describe_run, preflight
from nl_detectron.engine.pictures import Pictures, _choose_point, _make_sample
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model

SURE_OF_ALL = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "VISUALIZE.SCORE", 0.0)
SURE_OF_NONE = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "VISUALIZE.SCORE", 1.0)
FOUND_NOTHING = ("MODEL.ROI_HEADS.SCORE_THRESH_TEST", 1.0)
HEAD = (
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[2]"),
)

NO_BACKBONE = (
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone"),
    *("MODEL.NONLOCAL.BACKBONE.AFTER", "[]"),
)


def written(folder) -> dict[str, dict[int, np.ndarray]]:
    """Pictures of a run's event files, by name and iteration."""
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    return {
        name: {
            e.step: np.array(Image.open(io.BytesIO(e.encoded_image_string)))
            for e in events.Images(name)
        }
        for name in events.Tags()["images"]
    }


def hooked(cfg, model) -> tuple[Pictures, EventStorage]:
    """The hook in a trainer that stands at its first iteration."""
    hook, storage = Pictures(describe_run(cfg)), EventStorage()
    hook.trainer = SimpleNamespace(model=model, storage=storage, iter=0, max_iter=9)
    return hook, storage


# --- what is written, and when ---------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "period", "iterations"),
    [("yaml", 3, [2, 3]), ("lazy", 2, [1, 3]), ("yaml", 50, [3])],
    ids=lambda v: str(v),
)
def test_pictures_of_every_period_and_of_the_end_reach_tensorboard(
    tiny_of_kind, train, tmp_path, kind, period, iterations
):
    shown = {"visualize_period": period, "visualize_images": 2}
    train(tiny_of_kind(kind, tmp_path, max_iter=4, **shown))
    pictures = written(tmp_path)
    kinds = ("predictions", "attention")
    assert set(pictures) == {f"{kind}/{number}" for kind in kinds for number in (0, 1)}
    for name, by_iteration in pictures.items():
        assert list(by_iteration) == iterations, name
        for picture in by_iteration.values():
            assert picture.shape[2] == 3 and min(picture.shape[:2]) >= 150
            assert picture.std() > 10  # not blank


class Stopped(Exception):
    """In place of a machine that went away."""


@pytest.mark.slow
def test_a_stopped_run_leaves_the_pictures_it_had(tiny_config, train, tmp_path, monkeypatch):
    step = Trainer.run_step

    def run_step(self):
        if self.iter == 3:
            raise Stopped
        step(self)

    monkeypatch.setattr(Trainer, "run_step", run_step)
    with pytest.raises(Stopped):
        train(tiny_config(tmp_path, "SOLVER.MAX_ITER", 9, "VISUALIZE.PERIOD", 2))
    assert {tuple(steps) for steps in written(tmp_path).values()} == {(1,)}


def test_a_run_has_no_pictures_unless_asked(trained):
    assert written(trained.folder) == {}


def test_a_baseline_has_predictions_alone(tiny_config):
    cfg = tiny_config("", "VISUALIZE.PERIOD", 1, config="relay_mask_rcnn")
    hook, _ = hooked(cfg, build_model(cfg))
    assert set(hook.draw(hook.trainer.model, hook.samples[0])) == {"predictions"}


def test_there_are_no_more_pictures_than_images(tiny_config):
    cfg = tiny_config("", "VISUALIZE.PERIOD", 1, "VISUALIZE.IMAGES", 100)
    assert len(Pictures(describe_run(cfg)).samples) == 4


# --- what is in them -------------------------------------------------------------------------


@first_cases(
    1, "overrides", [SURE_OF_ALL, SURE_OF_NONE, FOUND_NOTHING], ids=["sure", "unsure", "nothing"]
)
@pytest.mark.parametrize("head", [(), HEAD], ids=["backbone", "and head"])
def test_keypoints_and_blocks_in_heads_are_drawn_too(tiny_config, overrides, head):
    keys = ("VISUALIZE.PERIOD", 1, "VISUALIZE.IMAGES", 1, *overrides, *head)
    cfg = tiny_config("", *keys, config="relay_keypoint_rcnn_nl")
    hook, storage = hooked(cfg, build_model(cfg))
    hook.put()
    (_, predictions, _), (name, attention, step) = storage._vis_data
    assert (name, step) == ("attention/0", 0)
    assert predictions.dtype == attention.dtype == np.uint8
    plain = _enlarged(hook.samples[0].image, predictions.shape[1:])
    changed = np.abs(predictions.transpose(1, 2, 0) - plain.astype(int)).mean()
    assert (changed > 8) == (overrides == SURE_OF_ALL)
    if overrides != SURE_OF_NONE:  # then an RoI may hold the annotation's centre, by chance
        rows = 2 if head and overrides == SURE_OF_ALL else 1  # a block in a head sees RoIs alone
        assert (attention.shape[1] / attention.shape[2] > 0.5) == (rows == 2)


def test_a_block_in_a_head_that_was_not_run_has_no_picture(tiny_config):
    keys = ("VISUALIZE.PERIOD", 1, *FOUND_NOTHING, *HEAD, *NO_BACKBONE)
    cfg = tiny_config("", *keys, config="relay_keypoint_rcnn_nl")
    hook, _ = hooked(cfg, build_model(cfg))
    assert set(hook.draw(hook.trainer.model, hook.samples[0])) == {"predictions"}


def _enlarged(image, shape):
    return np.array(Image.fromarray(image).resize(shape[::-1]))


@pytest.mark.slow
def test_colours_are_the_same_every_time(tiny_config):
    cfg = tiny_config("", "VISUALIZE.PERIOD", 1, "VISUALIZE.IMAGES", 1, *SURE_OF_ALL)
    hook, storage = hooked(cfg, build_model(cfg))
    for _ in range(2):
        hook.put()
        np.random.rand(1)  # training goes on
    first, _, second, _ = (picture for _, picture, _ in storage._vis_data)
    assert np.array_equal(first, second)


@pytest.fixture
def record(tiny_relay):
    return DatasetCatalog.get("tiny_val")[0]


def test_the_query_is_the_highest_scored_detection_else_the_first_box_else_the_centre(record):
    found = Instances((64, 128))
    found.pred_boxes = Boxes(torch.tensor([[0.0, 0, 10, 10], [20, 10, 40, 30]]))
    found.scores = torch.tensor([0.6, 0.9])
    assert _choose_point(_make_sample(record), found) == (
        "the detection with the highest score",
        (30, 20),
    )
    x, y, width, height = record["annotations"][0]["bbox"]  # XYWH
    place, point = _choose_point(_make_sample(record), found[:0])
    assert place == "the first annotation's box"
    assert point == pytest.approx((x + width / 2, y + height / 2))
    assert _choose_point(_make_sample({**record, "annotations": []}), found[:0]) == (
        "the image's centre",
        (64, 32),
    )


# --- training does not notice ----------------------------------------------------------------


@pytest.mark.slow
def test_losses_and_weights_are_those_of_a_run_without(tiny_config, train, tmp_path):
    ends = []
    for period in (0, 1):
        keys = ("SOLVER.MAX_ITER", 4, "VISUALIZE.PERIOD", period, "VISUALIZE.IMAGES", 1)
        trainer = train(tiny_config(tmp_path / str(period), *keys, *SURE_OF_ALL))
        losses = [value for value, _ in trainer.storage.history("total_loss").values()]
        ends.append((losses, trainer.model.state_dict()))
    (plain, weights), (pictured, others) = ends
    assert len(plain) == 4 and plain == pictured
    assert all(torch.equal(weights[k], others[k]) for k in weights)
    assert {len(steps) for steps in written(tmp_path / "1").values()} == {4}


@pytest.mark.slow
def test_modes_and_random_numbers_are_left_as_they_were(tiny_config):
    cfg = tiny_config("", "VISUALIZE.PERIOD", 1, "VISUALIZE.IMAGES", 1, *SURE_OF_ALL)
    model = build_model(cfg)
    model.train()
    model.backbone.bottom_up.stem.eval()  # as a user may
    before = [module.training for module in model.modules()]
    hook, _ = hooked(cfg, model)
    states = [torch.get_rng_state(), torch.tensor(np.random.get_state()[1].astype(int))]
    hook.put()
    assert [module.training for module in model.modules()] == before
    assert torch.equal(states[0], torch.get_rng_state())
    assert torch.equal(states[1], torch.tensor(np.random.get_state()[1].astype(int)))
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture
def alone():
    """A group of this one process."""
    torch.distributed.init_process_group(
        "gloo", store=torch.distributed.HashStore(), rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_a_distributed_models_pictures_are_the_models(tiny_config, alone):
    cfg = tiny_config("", "VISUALIZE.PERIOD", 1, "VISUALIZE.IMAGES", 1, *SURE_OF_ALL)
    model = build_model(cfg)
    drawn = []
    for either in (model, torch.nn.parallel.DistributedDataParallel(model)):
        hook, storage = hooked(cfg, either)
        hook.put()
        drawn.append([picture for _, picture, _ in storage._vis_data])
    assert len(drawn[0]) == 2
    assert all(map(np.array_equal, *drawn))


# --- mistakes --------------------------------------------------------------------------------


def test_pictures_of_no_data_set_are_refused(tiny_config, tmp_path, arguments):
    with pytest.raises(UsageError, match=r"VISUALIZE\.PERIOD is 10, but DATASETS\.TEST is empty"):
        preflight(tiny_config(tmp_path, "VISUALIZE.PERIOD", 10, "DATASETS.TEST", "()"), arguments())


@pytest.mark.parametrize("kind", KINDS)
def test_more_classes_than_the_data_set_has_are_reported(tiny_of_kind, kind):
    cfg = tiny_of_kind(kind, "", visualize_period=1, num_classes=80)
    with pytest.raises(UsageError, match=r"NUM_CLASSES is 80, but 'tiny_val' has 3 class"):
        Pictures(describe_run(cfg))


def test_without_pictures_no_test_set_is_needed(tiny_config, tmp_path, arguments):
    preflight(tiny_config(tmp_path, "DATASETS.TEST", "()"), arguments())


@pytest.mark.parametrize("content", [None, b"no image"], ids=["missing", "damaged"])
def test_an_image_that_cannot_be_read_is_reported(record, tmp_path, content):
    file = tmp_path / "0.png"
    if content:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"image .*0\.png cannot be read .* replace it"):
        _make_sample({**record, "file_name": str(file)})
