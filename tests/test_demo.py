"""The demo tool on a thin model: what it reads, draws, writes, skips and says."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask
import pytest
import torch
from coco_files import catalogues_left_alone, sound_content, word, write
from detectron2.engine import DefaultPredictor
from detectron2.structures import Boxes, Instances
from PIL import Image

from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks
from tests.helpers import randomise

# pycocotools' own, of numpy 2
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")
ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

import demo  # noqa: E402
import demo_drawing  # noqa: E402
import demo_inputs  # noqa: E402
import demo_outputs  # noqa: E402

CONFIGS = ROOT / "configs/Demo"
THIN = [
    *("MODEL.DEVICE", "cpu", "INPUT.MIN_SIZE_TEST", "64", "TEST.DETECTIONS_PER_IMAGE", "4"),
    *("MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.RESNETS.RES2_OUT_CHANNELS", "16"),
]
SURE = "0.6"  # what some of the random model's detections have
HEADS = [
    *("MODEL.ROI_KEYPOINT_HEAD.NAME", "NonLocalKeypointHead"),
    *("MODEL.NONLOCAL.KEYPOINT_HEAD.AFTER", "[2]"),
]


@pytest.fixture(scope="module")
def opts(tmp_path_factory):
    """Overrides that make a Demo config's model thin, and random weights for it, saved once."""
    made = {}

    def of(name, *more):
        if (name, more) not in made:
            cfg = load_config(str(CONFIGS / f"{name}.yaml"), [*THIN, *more])
            torch.manual_seed(1)
            model = build_model(cfg)
            for block in find_blocks(model).values():
                randomise(block, std=0.1)
            torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.02)
            settle(model.eval())
            path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
            torch.save({"model": model.state_dict()}, path)
            made[name, more] = [*THIN, *more, "MODEL.WEIGHTS", str(path)]
        return made[name, more]

    return of


@pytest.fixture
def run(opts, tmp_path):
    """Runs the tool; returns its exit code and the lines of detections.jsonl."""

    def call(*words, model="relay_mask_rcnn_nl", more=(), output="out", least=SURE):
        words = [*words, "--output", tmp_path / output, "--confidence-threshold", least]
        words = ["--config-file", CONFIGS / f"{model}.yaml", *words]
        code = demo.main([*map(str, words), "--opts", *opts(model, *more)])
        text = (tmp_path / output / "detections.jsonl").read_text()
        return code, [json.loads(line) for line in text.splitlines()]

    return call


@torch.no_grad()
def settle(model):
    """Give batch norms the statistics of some images: without, features grow beyond measure."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # all of it at once
        norm.train()
    model([{"image": torch.tensor(pixels(seed=i)).permute(2, 0, 1)} for i in range(4)])
    model.eval()


def pixels(height=64, width=96, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, *args, **keys) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(*args, **keys)).save(path)
    return path


def film(path, frames=5, height=64, width=96) -> Path:
    code = cv2.VideoWriter_fourcc(*("MJPG" if path.suffix == ".avi" else "mp4v"))
    writer = cv2.VideoWriter(str(path), code, 12, (width, height))
    for seed in range(frames):
        writer.write(pixels(height, width, seed))
    writer.release()
    return path


def frames(path) -> np.ndarray:
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0]:
        found.append(read[1])
    return np.stack(found)


def files(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_blank(path) -> bool:
    image = np.asarray(Image.open(path).convert("RGB"))
    return image.std() < 5 or min(image.shape[:2]) < 100


# --- what is read -------------------------------------------------------------------------------


def test_files_folders_and_patterns_are_drawn_and_equal_names_kept_apart(run, tmp_path):
    for name in ("a/one.png", "a/two.jpg", "b/one.jpg", "b/x/three.bmp", "c/ONE.png"):
        save(tmp_path / name)
    (tmp_path / "a/notes.txt").write_text("no image, and in a folder no matter\n" * 9)
    words = ["--input", tmp_path / "a", tmp_path / "b/**/*.*", "--input", tmp_path / "c/ONE.png"]
    code, lines = run(*words, tmp_path / "a/two.jpg")  # once more: it is drawn once
    assert code == 0
    pairs = [(str(Path(line["file"]).relative_to(tmp_path)), line["output"]) for line in lines]
    assert pairs == [
        ("a/one.png", "one.png"),
        ("a/two.jpg", "two.png"),
        ("b/one.jpg", "one-2.png"),
        ("b/x/three.bmp", "three.png"),
        ("c/ONE.png", "ONE-3.png"),
    ]
    assert files(tmp_path / "out") == sorted([*(name for _, name in pairs), "detections.jsonl"])
    assert not any(is_blank(tmp_path / "out" / name) for _, name in pairs)
    assert {line["frame"] for line in lines} == {None}


def test_grey_and_transparent_images_and_turned_photographs(run, tmp_path):
    image = Image.fromarray(pixels(64, 96))
    image.convert("L").save(tmp_path / "grey.png")
    image.convert("RGBA").save(tmp_path / "clear.png")
    exif = Image.Exif()
    exif[274] = 6  # the camera was held upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    image.save(tmp_path / "suffixless", format="png")
    _, lines = run("--input", tmp_path / "*.*", tmp_path / "suffixless")
    sizes = {line["output"]: (line["height"], line["width"]) for line in lines}
    assert sizes == {
        "clear.png": (64, 96),
        "grey.png": (64, 96),
        "turned.png": (96, 64),
        "suffixless.png": (64, 96),
    }


def test_what_cannot_be_read_is_told_and_skipped(run, tmp_path, capsys):
    save(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    whole = save(tmp_path / "cut.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "bad.mp4").write_bytes(b"nothing" * 99)
    (tmp_path / "notes.txt").write_text("FFmpeg takes this for a video\n" * 9)
    (tmp_path / "empty").mkdir()
    names = ["bad.png", "cut.png", "bad.mp4", "notes.txt", "empty", "nowhere.png", "*.gif"]
    paths = [tmp_path / name for name in names]
    code, lines = run("--input", *paths, tmp_path / "good.png")
    assert code == 1
    assert [line["output"] for line in lines] == ["good.png"]
    told = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert len(told) == len(paths)
    for path in paths:
        assert sum(f"skipped {path}: " in line for line in told) == 1


def test_what_a_model_cannot_take_is_skipped_and_its_batch_is_not(run, tmp_path, capsys):
    paths = [save(tmp_path / "a.png"), save(tmp_path / "b.png", 1, 3000), save(tmp_path / "c.png")]
    code, lines = run("--input", *paths, "--batch-size", 3)
    assert code == 1
    assert [line["output"] for line in lines] == ["a.png", "c.png"]
    assert "b.png: the model cannot take 3000 x 1 pixels" in capsys.readouterr().err


def test_no_frame_is_read_before_it_is_asked_for(monkeypatch, tmp_path):
    read = []

    class Endless:
        def __init__(self, *_):
            pass

        def read(self):
            read.append(1)
            return True, pixels(8, 8)

        def release(self):
            read.append("released")

    monkeypatch.setattr(cv2, "VideoCapture", Endless)
    source = demo_inputs.Source("endless.mp4", True, None)
    some = demo_inputs.batches([source], 3, demo_inputs.Skipped())
    for number in range(4):
        assert len(read) == 3 * number
        assert [frame.number for frame in next(some)] == list(range(3 * number, 3 * number + 3))
    some.close()


# --- what is found -------------------------------------------------------------------------------


def test_json_is_what_the_model_predicts(run, opts, tmp_path):
    path = save(tmp_path / "image.png")
    _, [line] = run("--input", path)
    cfg = load_config(str(CONFIGS / "relay_mask_rcnn_nl.yaml"), opts("relay_mask_rcnn_nl"))
    found = DefaultPredictor(cfg)(cv2.imread(str(path)))["instances"]
    found = found[found.scores >= float(SURE)]
    assert len(found) == len(line["detections"]) > 0
    for i, row in enumerate(line["detections"]):
        assert row["class_id"] == found.pred_classes[i]
        assert row["class_name"] == ("red", "green", "blue")[row["class_id"]]
        assert row["score"] == pytest.approx(float(found.scores[i]))
        assert row["box"] == pytest.approx(found.pred_boxes.tensor[i].tolist(), abs=1e-3)
        mask = pycocotools.mask.decode(row["mask"]).astype(bool)
        assert (mask == found.pred_masks[i].numpy()).mean() > 0.999
        assert "keypoints" not in row


def test_keypoints_are_written_and_blocks_of_a_head_shown(run, tmp_path):
    path = save(tmp_path / "image.png")
    words = ("--input", path, "--attention", "auto")
    code, [line] = run(*words, model="relay_keypoint_rcnn_nl", more=tuple(HEADS), least="0.1")
    assert code == 0 and line["detections"]
    for row in line["detections"]:
        assert np.shape(row["keypoints"]) == (3, 3)
        assert "mask" not in row and row["class_name"] == "thing"
    assert not is_blank(tmp_path / "out/image.attention1.png")
    with Image.open(tmp_path / "out/image.attention1.png") as panel:
        assert panel.width > 2000  # two blocks in a row


def test_only_sure_detections_are_kept(run, tmp_path):
    path = save(tmp_path / "image.png")
    _, [many] = run("--input", path, least="0")
    scores = sorted((row["score"] for row in many["detections"]), reverse=True)
    assert len(scores) == 4
    _, [few] = run("--input", path, least=str((scores[1] + scores[2]) / 2))
    kept = [(row["score"], row["box"]) for row in few["detections"]]
    assert kept == [(row["score"], row["box"]) for row in many["detections"][:2]]
    code, [none] = run("--input", path, "--attention", "auto", least="1")
    assert code == 0 and none["detections"] == []
    assert not is_blank(tmp_path / "out/image.attention1.png")  # from the centre


def test_a_batch_finds_what_single_images_have(run, tmp_path):
    paths = [save(tmp_path / f"{seed}.png", seed=seed) for seed in range(3)]
    _, single = run("--input", *paths, output="single", least="0")
    _, pairs = run("--input", *paths, "--batch-size", 2, output="pairs", least="0")
    assert len(single) == len(pairs) == 3
    for one, other in zip(single, pairs, strict=True):
        assert one["file"] == other["file"] and one["detections"]
        for a, b in zip(one["detections"], other["detections"], strict=True):
            assert a["class_id"] == b["class_id"]
            assert a["score"] == pytest.approx(b["score"], abs=1e-4)
            assert a["box"] == pytest.approx(b["box"], abs=1e-2)


def test_images_of_a_batch_may_differ_in_size(run, tmp_path):
    paths = [save(tmp_path / "a.png", 64, 96), save(tmp_path / "b.png", 80, 64)]
    code, lines = run("--input", *paths, "--batch-size", 2, "--attention", "10,70")
    assert code == 1  # the first has no such point
    assert [(line["height"], line["width"]) for line in lines] == [(64, 96), (80, 64)]
    assert files(tmp_path / "out") == ["a.png", "b.attention1.png", "b.png", "detections.jsonl"]


def test_the_narrowest_images_are_drawn(run, tmp_path):
    code, [line] = run("--input", save(tmp_path / "image.png", 40, 2), least="0")
    assert code == 0 and line["detections"]


def test_classes_without_names_have_numbers(run, tmp_path, capsys):
    path = save(tmp_path / "image.png")
    code, [line] = run("--input", path, more=("DATASETS.TEST", "('birds_val',)"))
    assert code == 0
    assert {row["class_name"] for row in line["detections"]} == {None}
    assert "told by number" in capsys.readouterr().err


def test_classes_of_own_data_have_its_names(run, tmp_path, capsys):
    content = sound_content()
    content["categories"].append({"id": 8, "name": "ibis"})  # three, as the model
    data = write(tmp_path, content, "birds_val")
    with catalogues_left_alone():
        words = ("--input", tmp_path / "images" / "a.png", "--dataset", word(data))
        code, [line] = run(*words, least="0")
    assert code == 0
    assert line["detections"]
    assert {row["class_name"] for row in line["detections"]} <= {"jay", "ibis", "owl"}
    assert "DATASETS.TEST ('birds_val',)" in capsys.readouterr().err


# --- attention -----------------------------------------------------------------------------------


def test_attention_from_a_point_and_from_what_is_found(run, tmp_path):
    path = save(tmp_path / "image.png")
    run("--input", path, "--attention", "30.5,20", output="point")
    assert files(tmp_path / "point") == ["detections.jsonl", "image.attention1.png", "image.png"]
    run("--input", path, "--attention", "30.5,20", "--scores", output="scores")
    panels = [tmp_path / folder / "image.attention1.png" for folder in ("point", "scores")]
    assert len({panel.read_bytes() for panel in panels}) == 2
    _, [line] = run("--input", path, "--attention", "auto", output="auto")
    panels = [f"image.attention{n}.png" for n in (1, 2, 3)][: len(line["detections"])]
    assert files(tmp_path / "auto") == ["detections.jsonl", *panels, "image.png"]
    assert len(panels) > 1
    for panel in [
        tmp_path / "point/image.attention1.png",
        *(tmp_path / "auto" / p for p in panels),
    ]:
        assert not is_blank(panel)


def test_a_point_outside_an_image_is_told_and_its_detections_drawn(run, tmp_path, capsys):
    paths = [save(tmp_path / "image.png"), film(tmp_path / "film.mp4")]
    code, lines = run("--input", *paths, "--attention", "200,20")
    assert code == 1
    assert [line["output"] for line in lines] == ["image.png", *["film.mp4"] * 5]
    told = [line for line in capsys.readouterr().err.splitlines() if "skipped" in line]
    assert len(told) == 2  # not one for each frame
    for path, line in zip(paths, told, strict=True):
        assert f"{path}: the point x 200, y 20 lies outside its 96 x 64 pixels" in line


def test_a_model_without_blocks_shows_detections_alone(run, tmp_path, capsys):
    path = save(tmp_path / "image.png")
    code, [line] = run("--input", path, "--attention", "auto", model="relay_mask_rcnn")
    assert code == 0 and line["detections"]
    assert files(tmp_path / "out") == ["detections.jsonl", "image.png"]
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(told) == 1 and "no non-local blocks" in told[0]


# --- videos and cameras --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["film.mp4", "film.avi"])
def test_a_video_becomes_a_video(run, tmp_path, name):
    code, lines = run("--input", film(tmp_path / name), "--batch-size", 2)
    assert code == 0
    assert [line["frame"] for line in lines] == [0, 1, 2, 3, 4]
    assert {line["output"] for line in lines} == {"film.mp4"}
    made = frames(tmp_path / "out/film.mp4")
    assert made.shape == (5, 320, 480, 3)  # larger than 64 x 96, for labels to be read
    assert made.std() > 5
    assert cv2.VideoCapture(str(tmp_path / "out/film.mp4")).get(cv2.CAP_PROP_FPS) == 12


def test_attention_stands_below_the_frames_at_one_size(run, tmp_path):
    paths = [film(tmp_path / "film.mp4"), save(tmp_path / "image.png")]
    code, lines = run("--input", *paths, "--attention", "auto", least="0.66")
    counts = {len(line["detections"]) for line in lines[:5]}
    assert code == 0 and len(counts) > 1  # so that the panels are not all of as many detections
    made = frames(tmp_path / "out/film.mp4")
    height, width = made.shape[1:3]
    assert len(made) == 5 and height > 500 and width > 1000
    assert made[:, 320:].std() > 5


def test_a_films_frames_have_one_even_size(tmp_path):
    made = demo_outputs.Film(tmp_path / "film.mp4", 25)
    for height, width in ((63, 97), (63, 97), (32, 48)):
        made.add(pixels(height, width))
    made.close()
    assert frames(tmp_path / "film.mp4").shape == (3, 64, 98, 3)


class Camera:
    """Stands in for cv2.VideoCapture: ``frames`` images, then what ``after`` does."""

    opened, frames, after, there = (), 3, None, True

    def __init__(self, number, *_):
        Camera.opened = (*Camera.opened, number)
        self.left = self.frames

    def isOpened(self):
        return self.there

    def get(self, _):
        return 0.0  # some cameras do not tell their rate

    def read(self):
        if self.left:
            self.left -= 1
            return True, pixels(64, 96, self.left)
        if self.after:
            raise self.after
        return False, None

    def release(self):
        pass


@pytest.mark.parametrize("after", [None, KeyboardInterrupt()])
def test_a_camera_runs_until_it_ends_or_is_stopped(run, tmp_path, monkeypatch, after):
    with monkeypatch.context() as patch:
        patch.setattr(cv2, "VideoCapture", Camera)
        patch.setattr(Camera, "after", after)
        patch.setattr(Camera, "opened", ())
        code, lines = run("--webcam", 2)
        assert set(Camera.opened) == {2}
    assert code == 0
    assert [(line["file"], line["frame"]) for line in lines] == [("webcam2", n) for n in range(3)]
    assert len(frames(tmp_path / "out/webcam2.mp4")) == 3


def test_the_key_q_ends_a_camera_where_there_are_windows(run, tmp_path, monkeypatch):
    keys = iter([-1, ord("q")])
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    for name, does in (
        ("imshow", lambda *_: None),
        ("waitKey", lambda _: next(keys)),
        ("destroyAllWindows", lambda: None),
    ):
        monkeypatch.setattr(cv2, name, does, raising=False)
    code, lines = run("--webcam")
    assert code == 0 and len(lines) == 2


def test_a_camera_that_is_not_there_is_told(run, monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "there", False)
    with pytest.raises(UsageError, match="--webcam 1: there is no such camera"):
        run("--webcam", 1)


def test_a_camera_without_a_frame_is_told(run, monkeypatch, capsys):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "frames", 0)
    with pytest.raises(UsageError, match="nothing could be read"):
        run("--webcam")
    assert "skipped webcam0: no frame of it can be read" in capsys.readouterr().err


def test_what_is_written_when_stopped_is_whole(run, tmp_path, monkeypatch):
    put, count = demo_outputs.Outputs.put, []

    def stop(*args):
        put(*args)
        count.append(1)
        if len(count) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(demo_outputs.Outputs, "put", stop)
    with pytest.raises(KeyboardInterrupt):
        run("--input", film(tmp_path / "film.mp4"))
    assert len(frames(tmp_path / "out/film.mp4")) == 3
    assert len((tmp_path / "out/detections.jsonl").read_text().splitlines()) == 3


# --- colours -------------------------------------------------------------------------------------


def things(*boxes, kinds=None) -> Instances:
    kinds = torch.tensor(kinds or [0] * len(boxes), dtype=torch.long)
    boxes = Boxes(torch.tensor(boxes, dtype=torch.float).reshape(-1, 4))
    return Instances((100, 100), pred_boxes=boxes, pred_classes=kinds)


def test_a_thing_keeps_its_colour_and_others_have_other_ones():
    a, b, c = (0, 0, 40, 40), (50, 50, 90, 90), (50, 0, 90, 40)
    moved = (2, 1, 42, 41)
    colours = demo_drawing.Colours([(200, 0, 0), (0, 200, 0)])
    of_a, of_b = colours(things(a, b))
    assert not np.allclose(of_a, of_b)
    then = colours(things(b, c, moved))
    assert np.array_equal(then[0], of_b) and np.array_equal(then[2], of_a)
    assert not any(np.allclose(then[1], other) for other in (of_a, of_b))
    assert colours(things()) == []
    assert np.array_equal(colours(things(b))[0], of_a)  # nobody has it any more
    reds, greens = colours(things(a, a, kinds=[0, 1]))
    assert reds.argmax() == 0 and greens.argmax() == 1


# --- what is told --------------------------------------------------------------------------------


def test_weights_that_are_lacking_are_told(opts, tmp_path, capsys):
    path = save(tmp_path / "image.png")
    baseline = opts("relay_mask_rcnn")[-1]
    words = ["--config-file", str(CONFIGS / "relay_mask_rcnn_nl.yaml"), "--input", str(path)]
    words += ["--output", str(tmp_path / "out")]
    weights = ["--opts", *THIN, "MODEL.WEIGHTS"]
    assert demo.main([*words, *weights, baseline]) == 0
    assert "warning" not in capsys.readouterr().err  # a new block is the identity
    words += ["--attention", "auto"]
    assert demo.main([*words, *weights, baseline]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(told) == 1 and "lacks backbone.bottom_up.res4.nonlocal4: untrained" in told[0]
    kept = {k: v for k, v in torch.load(baseline)["model"].items() if "roi_heads" not in k}
    torch.save({"model": kept}, tmp_path / "backbone.pth")
    assert demo.main([*words, *weights, str(tmp_path / "backbone.pth")]) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(told) == 2 and "such as roi_heads." in told[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--input", "nothing.png"], "nothing of --input can be read"),
        (["--input", "bad.png"], "nothing could be read"),
        (["--input", "image.png", "--output", "image.png"], "expected a folder"),
        (["--input", "image.png", "--output", "image.png/in"], "expected a folder"),
        (["--input", "image.png", "--output", "."], "which a picture could replace"),
        (["--input", "link.png", "--output", "."], "which a picture could replace"),
        (["--input", "image.png", "--opts", "MODEL.WEIGHTS", ""], "MODEL.WEIGHTS is empty"),
        (["--input", "image.png", "--opts", "MODEL.WEIGHTS", "no.pth"], "does not exist"),
        (["--input", "image.png", "--opts", "MODEL.WEIGHT", "x"], "there is no config key"),
    ],
)
def test_mistakes_are_told(opts, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    save(tmp_path / "image.png")
    (tmp_path / "link.png").symlink_to(save(tmp_path / "elsewhere/image.png"))
    (tmp_path / "bad.png").write_bytes(b"nothing")
    if "--opts" not in words:
        words = [*words, "--opts", *opts("relay_mask_rcnn")]
    config = ["--config-file", str(CONFIGS / "relay_mask_rcnn.yaml"), "--output", "out"]
    with pytest.raises(UsageError, match=told) as caught:
        demo.main([*config, *words])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "one of the arguments --input --webcam is required"),
        (["--input", "a.png", "--webcam"], "not allowed with"),
        (["--input", "a.png", "--attention", "12"], "expected X,Y in pixels of the image"),
        (["--input", "a.png", "--attention", "all"], "or auto, got 'all'"),
        (["--input", "a.png", "--batch-size", "0"], "expected a whole number of 1 or more"),
        (["--input", "a.png", "--confidence-threshold", "50"], "expected a score of 0 to 1"),
    ],
)
def test_words_that_mean_nothing_are_told(capsys, words, told):
    with pytest.raises(SystemExit):
        demo.main(["--config-file", "a.yaml", "--output", "out", *words])
    assert told in capsys.readouterr().err


def test_the_threshold_reaches_a_retinanet():
    config = ROOT / "configs/COCO-Detection/retinanet_R_50_FPN_nl_1x.yaml"
    words = ["--input", "a.png", "--output", "out", "--confidence-threshold", "0.3"]
    cfg = demo.configured(demo.parsed(["--config-file", str(config), *words]))
    assert cfg.MODEL.RETINANET.SCORE_THRESH_TEST == 0.3


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    words = ["--config-file", "nowhere.yaml", "--input", "a.png", "--output", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", ROOT / "tools/demo.py", *words],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("demo.py: error: config file 'nowhere.yaml' does not exist")
    assert done.stderr.count("\n") == 1
