"""tools/explore.py without its page: what can be shown, and what is refused."""

import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from coco_files import FILES, catalogues_left_alone, sound_content, write
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import randomise
from PIL import Image
from test_tools import TOOLS

from nl_detectron.attention import forms_of, record_attention
from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.layers import PAIRWISE, SUBSAMPLES, NonLocalBlock
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.relay import Relay, draw_image, register_split

sys.path.append(str(TOOLS))

import explore
import explore_models
import explore_page

CONFIG, KEYPOINTS = (f"configs/Demo/relay_{kind}_rcnn_nl.yaml" for kind in ("mask", "keypoint"))
BASELINE = "configs/Demo/relay_mask_rcnn.yaml"
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", "64"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
]
IN_HEAD = [
    *("MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.NONLOCAL.BACKBONE.AFTER", "[]"),
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[1]", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"),
]
PLACES = {"backbone": (CONFIG, []), "head": (KEYPOINTS, IN_HEAD)}


@pytest.fixture(scope="module")
def image():
    return draw_image(Relay(height=64, width=128, signal=24), "val", 0)[0]


@pytest.fixture
def file(image, tmp_path):
    Image.fromarray(image).save(tmp_path / "relay.png")
    return str(tmp_path / "relay.png")


def thin_model(form, config=CONFIG, words=()):
    words = [*THIN, *words, "MODEL.NONLOCAL.PAIRWISE", form]
    torch.manual_seed(0)
    model = build_model(load_config(config, words)).eval()
    for block in find_blocks(model).values():
        randomise(block, std=0.2)
        torch.nn.init.zeros_(block.w_z.weight)  # so that all forms find the same
        torch.nn.init.zeros_(block.w_z.bias)
    return model


def explorer(*words, count=1):
    return explore_models.Explorer(
        [explore_models.load(CONFIG, [*THIN, *words]) for _ in range(count)]
    )


# --- the switch of forms -------------------------------------------------------------------------


@pytest.mark.parametrize("own", PAIRWISE)
def test_a_block_can_be_shown_in_its_own_form_and_those_that_need_no_more_weights(own):
    found = forms_of(NonLocalBlock(4, pairwise=own))
    assert found[0] == own and len(set(found)) == len(found)
    assert (
        ("dot_product" in found)
        == ("embedded_gaussian" in found)
        == (own in ("dot_product", "embedded_gaussian"))
    )
    assert "gaussian" in found
    assert set(found) & {"concatenation", "global_context"} <= {own}


@pytest.mark.parametrize("subsample", SUBSAMPLES)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("own", "other"),
    [
        ("embedded_gaussian", "dot_product"),
        ("dot_product", "embedded_gaussian"),
        ("dot_product", "gaussian"),
        ("concatenation", "gaussian"),
    ],
)
def test_another_form_is_what_a_model_of_that_form_sees_with_the_same_weights(
    own, other, place, subsample, image
):
    config, words = PLACES[place]
    words = [*words, "MODEL.NONLOCAL.SUBSAMPLE", subsample]
    model, twin = (thin_model(form, config, words) for form in (own, other))
    twin.load_state_dict(model.state_dict(), strict=False)
    records = [record_attention(m, [image], (64, 999))[0] for m in (model, twin)]
    [block] = records[0].blocks
    x, y = explore_page.begin(records[0])
    ours, theirs = (record.attention(x, y, block) for record in records)
    found = records[0].attention(x, y, block, other)
    assert found.form == theirs.form == other
    assert (found.box is None) == (place == "backbone") and found.point == theirs.point
    assert found.weights == pytest.approx(theirs.weights, rel=1e-4, abs=1e-7)
    assert (found.scores is None) == (other == "dot_product")
    if found.scores is not None:
        assert found.scores == pytest.approx(theirs.scores, rel=1e-4, abs=1e-5)
    assert not np.allclose(found.weights, ours.weights, rtol=0.1, atol=0)


def test_the_page_says_whose_weights_another_form_has():
    assert "own form" in explore_page.about("gaussian", "gaussian")
    told = explore_page.about("dot_product", "embedded_gaussian")
    assert "theta and phi" in told and "trained as **embedded_gaussian**" in told
    assert "input x" in explore_page.about("gaussian", "concatenation")


# --- what is shown -------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_is_run_once_for_an_image_and_the_latest_images_are_kept(
    file, tmp_path, monkeypatch
):
    looks = []
    monkeypatch.setattr(
        explore_models,
        "record_attention",
        lambda *args: looks.append(args) or record_attention(*args),
    )
    ours = explorer(count=2)
    first = ours.records(file)
    assert len(first) == len(looks) == 2
    assert ours.records(file) is first and len(looks) == 2
    for number in range(explore_models.KEPT):
        other = tmp_path / f"{number}.png"
        Image.new("RGB", (64, 64)).save(other)
        ours.records(str(other))
    assert ours.records(file) is not first


def test_a_point_is_told_in_pictures_and_words(file):
    [record] = explorer().records(file)
    [block] = record.blocks
    for form in forms_of(find_blocks(explorer().models[0].model)[block]):
        of_weights, arrows, words = explore_page.render_point(
            record, 30, 30, "weights", block, form
        )
        of_scores, *_ = explore_page.render_point(record, 30, 30, "scores", block, form)
        assert of_weights.std() > 10 and arrows.std() > 10
        assert np.array_equal(of_weights, of_scores) == (form == "dot_product")
        assert words.startswith(f"**{form}**") and "mean distance" in words
    outside = explore_page.render_point(record, 1e4, -5, "weights", block, form)
    corner = explore_page.render_point(record, record.image.shape[1], 0, "weights", block, form)
    assert np.array_equal(outside[0], corner[0])


def test_a_head_that_did_not_look_says_so(image):
    [record] = record_attention(thin_model("gaussian", KEYPOINTS, IN_HEAD), [image], (64, 999))
    record._seen = {block: [] for block in record.blocks}
    told = explore_page.render_point(record, 5, 5, "weights", record.blocks[0], "gaussian")
    assert told == (None, None, explore_page.NO_ROI)


def test_detections_are_those_above_the_slider_on_a_picture_large_enough_to_click(image):
    words = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.0"]
    [record] = record_attention(thin_model("gaussian", words=words), [image], (64, 999))
    assert len(record.instances) > 1
    scores = sorted(record.instances.scores.tolist())
    classes = explore_models.load(CONFIG, THIN).classes
    picture, told = explore_page.detections(record, classes, scores[-1])
    assert told.endswith(f": 1 of {len(scores)}.")
    assert picture.shape == (400, 800, 3) and explore_page.scale(record) == 800 / 128
    everything, _ = explore_page.detections(record, classes, 0)
    assert not np.array_equal(picture, everything)
    x0, y0, x1, y1 = record.instances.pred_boxes.tensor[0].tolist()
    assert explore_page.begin(record) == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=0.1)


def test_what_a_checkpoint_does_not_give_is_said(tmp_path):
    model = explore_models.load(CONFIG, THIN)
    assert "backbone.bottom_up.res4.nonlocal4;" in model.untrained
    assert "roi_heads, so detections" in model.untrained and model.title.endswith("no weights")
    torch.save({"model": model.model.state_dict()}, tmp_path / "whole.pth")
    whole = explore_models.load(CONFIG, [*THIN, "MODEL.WEIGHTS", str(tmp_path / "whole.pth")])
    assert whole.untrained == "" and whole.title == "relay_mask_rcnn_nl, whole.pth"
    assert whole.classes.thing_classes == ["red", "green", "blue"]


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "RGB"])
def test_images_become_rgb_of_no_more_pixels_than_a_model_sees(mode, tmp_path):
    Image.new(mode, (300, 100)).save(tmp_path / "image.png")
    assert explore_models.read(tmp_path / "image.png", 300).shape == (100, 300, 3)
    smaller = explore_models.read(tmp_path / "image.png", 150)
    assert smaller.shape == (50, 150, 3) and smaller.dtype == np.uint8


@pytest.mark.parametrize("kept", [0, 1, 30, 200])
def test_a_broken_image_is_refused(kept, file, tmp_path):
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(file).read_bytes()[:kept])
    with pytest.raises(UsageError, match=r"^broken\.png cannot be read as an image.* try a JPEG"):
        explore_models.read(broken, 999)


def test_an_image_that_the_model_cannot_take_is_refused(tmp_path):
    Image.new("RGB", (30, 20)).save(tmp_path / "small.png")
    words = ("MODEL.NONLOCAL.BACKBONE.AFTER", "['res5.-1']", "INPUT.MIN_SIZE_TEST", "20")
    with pytest.raises(UsageError, match=r"small\.png, 30 x 20: .*at least 2 positions"):
        explorer(*words).records(str(tmp_path / "small.png"))


@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1)])
def test_an_image_of_any_shape_is_drawn(size, tmp_path):
    Image.new("RGB", size).save(tmp_path / "line.png")
    [record] = explorer().records(str(tmp_path / "line.png"))
    heat, arrows, _ = explore_page.render_point(
        record, 0, 0, "weights", record.blocks[0], "embedded_gaussian"
    )
    assert all(min(p.shape[:2]) >= 10 and max(p.shape[:2]) < 1000 for p in (heat, arrows))


def test_images_are_files_and_those_in_folders(file, tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "A.JPG").touch()
    found = explore_models.find_images([str(tmp_path), file, str(tmp_path / "notes.txt")])
    assert [p.name for p in found] == ["A.JPG", "relay.png", "notes.txt"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty: no image in it"):
        explore_models.find_images([str(tmp_path / "empty")])
    with pytest.raises(UsageError, match="nothing: expected a file or a folder, there is none"):
        explore_models.find_images(["nothing"])


def test_without_images_there_are_those_of_the_data_set_if_it_is_here(tmp_path, monkeypatch):
    monkeypatch.setenv("NL_DETECTRON_CACHE", str(tmp_path))
    register_split("explored_val", Relay(height=64, width=128, signal=24, train=0, val=3), "val")
    try:
        model = explore_models.load(CONFIG, [*THIN, "DATASETS.TEST", "('explored_val',)"])
        assert [p.name for p in explore_models.of_data_set(model)] == [
            f"0000{n}.png" for n in range(3)
        ]
    finally:
        DatasetCatalog.remove("explored_val")
        MetadataCatalog.remove("explored_val")
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for name in ("('coco_2017_val_100',)", "('nothing_of_this_name',)", "()"):
        assert (
            explore_models.of_data_set(explore_models.load(CONFIG, [*THIN, "DATASETS.TEST", name]))
            == []
        )


def test_own_data_gives_images_and_names(tmp_path):
    content = sound_content()
    content["categories"].append({"id": 8, "name": "ibis"})  # three, as the model
    with catalogues_left_alone():
        data = write(tmp_path, content, "birds_val")
        model = explore_models.load(CONFIG, THIN, [data])
        assert [p.name for p in explore_models.of_data_set(model)] == list(FILES)
        assert model.classes.thing_classes == ["jay", "ibis", "owl"]


# --- a user's mistakes ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--config-file", "no.yaml"], "config file 'no.yaml' does not exist"),
        (["--config-file", CONFIG, "--images", "nothing"], "--images nothing: expected"),
        (["--config-file", CONFIG, "--compare-opts", "SEED", "1"], "no --compare-config"),
        (["--config-file", CONFIG, "--opts", "MODEL.WEIGHT", "x"], "did you mean MODEL.WEIGHTS"),
        (["--config-file", CONFIG, "--opts", "MODEL.WEIGHTS", "no.pth"], "does not exist"),
        (["--config-file", BASELINE], "no non-local blocks to look through; name a config"),
        (
            ["--config-file", CONFIG, "--opts", *THIN, "--compare-config", BASELINE],
            f"{BASELINE}: this model has no non-local blocks",
        ),
    ],
)
def test_a_mistake_is_told_in_one_message(words, told, monkeypatch):
    monkeypatch.setattr(explore, "import_gradio", lambda folder: None)
    with pytest.raises(UsageError) as caught:
        explore.main(words)
    assert told in str(caught.value)


def test_a_port_that_is_taken_is_told(monkeypatch):
    def launch(server_name, server_port, **_):
        assert server_name == "127.0.0.1"
        raise OSError("Cannot find empty port in range: 80-80")

    monkeypatch.setattr(explore.signal, "signal", lambda *_: None)
    demo = SimpleNamespace(launch=launch)
    with pytest.raises(UsageError, match="port 80: taken; name a free one with --port"):
        explore.serve(MagicMock(), demo, 80)


def test_a_missing_requirement_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "gradio", None)  # so that it does not import
    monkeypatch.setattr(sys, "argv", ["explore.py", "--config-file", CONFIG])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(TOOLS / "explore.py"), run_name="__main__")
    assert caught.value.code.startswith("explore.py: error: the page needs gradio")
    assert caught.value.code.endswith("pip install -r requirements-explore.txt")
    assert "\n" not in caught.value.code
