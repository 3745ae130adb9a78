"""A thin model with random weights for the demo, and the demo itself."""

import json

import pytest
import torch
from helpers import load_tool, randomise
from media import CONFIGS, SURE, THIN, make_pixels

from nl_detectron.engine import load_config
from nl_detectron.modeling import build_model, find_blocks


@pytest.fixture(scope="session")
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
            settle_norms(model.eval())
            path = tmp_path_factory.mktemp("weights") / f"{name}.pth"
            torch.save({"model": model.state_dict()}, path)
            made[name, more] = [*THIN, *more, "MODEL.WEIGHTS", str(path)]
        return made[name, more]

    return of


@torch.no_grad()
def settle_norms(model):
    """Give batch norms the statistics of some images: without, features grow beyond measure."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # all of it at once
        norm.train()
    model([{"image": torch.tensor(make_pixels(seed=i)).permute(2, 0, 1)} for i in range(4)])
    model.eval()


@pytest.fixture
def run(opts, tmp_path):
    """Runs the tool; returns its exit code and the lines of detections.jsonl."""

    def call(*words, model="relay_mask_rcnn_nl", more=(), output="out", least=SURE):
        words = [*words, "--output", tmp_path / output, "--confidence-threshold", least]
        words = ["--config-file", CONFIGS / f"{model}.yaml", *words]
        code = load_tool("demo").main([*map(str, words), "--opts", *opts(model, *more)])
        text = (tmp_path / output / "detections.jsonl").read_text()
        return code, [json.loads(line) for line in text.splitlines()]

    return call
