"""Pictures of a video run: frames with their true and predicted class, and where blocks look."""

import numpy as np
import pytest
import torch

pytest.importorskip("av", reason="needs PyAV: make setup-video")

import cv2
from coco_files import restore_catalogues
from detectron2.data import DatasetCatalog
from helpers import randomise
from media import CONFIGS
from PIL import Image
from video_files import decode_everything

from nl_detectron.engine import load_config
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.prediction.clip_attention import save_attention_of_videos
from nl_detectron.prediction.video_comparison import SIDE, TEXT, save_video_comparison
from nl_detectron.video_relay import VideoRelay, register_split

RELAY = VideoRelay(pictures=4, hold=1, size=32, margin=0, patch=8, shape=10, train=0, val=9)
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8"),
    *("INPUT.VIDEO.FRAMES", "4", "INPUT.VIDEO.RATE", "1", "INPUT.VIDEO.CROP_SIZE", "32"),
    *("TEST.VIDEO.SHORT_SIDE", "32", "TEST.VIDEO.CROP_SIZE", "32"),
    *("DATASETS.TEST", "('drawn_val',)"),
]


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, restore_catalogues():
        patch.setenv("NL_DETECTRON_CACHE", str(tmp_path_factory.mktemp("cache")))
        register_split("drawn_val", RELAY, "val")
        yield load_config(str(CONFIGS / "relay_video_c2d_nl.yaml"), THIN)


@pytest.fixture
def model(cfg):
    made = build_model(cfg)
    for block in find_blocks(made).values():
        randomise(block, std=0.1)
    return made


def test_each_video_is_below_its_true_and_predicted_class(cfg, model, tmp_path):
    records = DatasetCatalog.get("drawn_val")
    always = records[0]["label"]
    torch.nn.init.zeros_(model.linear.weight)
    torch.nn.init.zeros_(model.linear.bias)
    model.linear.bias.data[always] = 5
    count = 1 + next(n for n, record in enumerate(records) if record["label"] != always)
    save_video_comparison(cfg, model, tmp_path / "all.png", count)
    picture = np.asarray(Image.open(tmp_path / "all.png")).astype(int)
    rows = np.split(picture, count)
    assert rows[0].shape == (TEXT + SIDE + 4, 4 * (SIDE + 4), 3)
    for row, record in zip(rows, records, strict=False):
        red, green, _ = (255 - row[:TEXT]).sum(axis=(0, 1))  # of the ink: green leaves out green
        assert (green < red) == (record["label"] == always)
        first = cv2.resize(decode_everything(record["file_name"])[0], (SIDE, SIDE))
        assert np.abs(row[TEXT:-4, :SIDE] - first).max() <= 2


def test_a_video_of_each_class_shows_where_blocks_look(cfg, model, tmp_path):
    for count in (1, 2):
        save_attention_of_videos(cfg, model, tmp_path / f"{count}.png", count)
    one, two = (
        np.asarray(Image.open(tmp_path / f"{count}.png").convert("RGB"), float) for count in (1, 2)
    )
    above, below = np.split(two, 2)
    assert above.shape == one.shape
    assert np.abs(above - one).mean() < 3 < np.abs(below - one).mean()  # of other 256 colours
    assert below.std() > 20
