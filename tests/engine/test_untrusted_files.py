"""Weight files and configs of strangers: nothing in them runs, and nothing is fetched unasked."""

import pickle
import runpy
import sys
from argparse import ArgumentParser
from contextlib import redirect_stdout, suppress
from io import StringIO

import numpy as np
import pytest
import torch
from config_kinds import ROOT
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from helpers import load_tool
from marked_files import assert_refused, write_marked_file

from nl_detectron.engine import (
    add_checkpoint_argument,
    add_trust_arguments,
    describe_run,
    trust_from_args,
)
from nl_detectron.engine.trust import trusts_checkpoints, trusts_remote_bases
from nl_detectron.errors import UsageError

DEMO = ROOT / "configs/Demo"
SUFFIXES = (".pkl", ".pth", ".pyth")
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TEST", "64"),
]


@pytest.fixture(params=SUFFIXES)
def marked(request, tmp_path, marker):
    """A file of weights whose code would create the marker."""
    return write_marked_file(tmp_path / f"weights{request.param}", marker)


def train_net(monkeypatch, *words) -> str:
    """Run train_net.py in this process; returns the message with which it ends."""
    monkeypatch.setattr(sys, "argv", ["train_net.py", *map(str, words)])
    with pytest.raises(SystemExit) as caught, redirect_stdout(StringIO()):
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    return str(caught.value.code)


def test_train_net_runs_nothing_in_weights(marked, monkeypatch, tiny_relay, tmp_path):
    sets = ["DATASETS.TRAIN", "('tiny_train',)", "DATASETS.TEST", "('tiny_val',)"]
    words = [*THIN, *sets, "MODEL.WEIGHTS", marked, "OUTPUT_DIR", tmp_path / "run"]
    message = train_net(monkeypatch, "--config-file", DEMO / "relay_mask_rcnn_nl.yaml", *words)
    assert_refused(message, marked)


def test_train_net_runs_nothing_in_a_lazy_configs_weights(
    marked, monkeypatch, tiny_relay, tmp_path
):
    words = [
        *("dataloader.train.dataset.names=tiny_train", "dataloader.test.dataset.names=tiny_val"),
        *("train.device=cpu", f"train.init_checkpoint={marked}", f"train.output_dir={tmp_path}"),
    ]
    message = train_net(monkeypatch, "--config-file", DEMO / "relay_mask_rcnn_nl.py", *words)
    assert_refused(message, marked)


@pytest.mark.parametrize("suffix", ["pkl", "proposals"])
def test_proposals_run_nothing(suffix, marker, tiny_config, tmp_path):
    file = write_marked_file(tmp_path / "theirs.pkl", marker).rename(tmp_path / f"theirs.{suffix}")
    words = ["MODEL.LOAD_PROPOSALS", True, "DATASETS.PROPOSAL_FILES_TRAIN", f"('{file}',)"]
    run = describe_run(tiny_config(tmp_path, *words))
    with pytest.raises(UsageError) as caught:
        run.build_train_loader()
    assert_refused(str(caught.value), file)


def test_each_training_set_needs_a_file_of_proposals(tiny_config, tmp_path):
    run = describe_run(tiny_config(tmp_path, "MODEL.LOAD_PROPOSALS", True))
    with pytest.raises(UsageError, match="PROPOSAL_FILES_TRAIN: expected a file for each of the 1"):
        run.build_train_loader()


def test_proposals_load(tiny_config, tmp_path):
    ids = [record["image_id"] for record in DatasetCatalog.get("tiny_train")]
    boxes = [np.array([[1.0, 2.0, 30.0, 40.0]], np.float32) for _ in ids]
    scores = [np.ones(1, np.float32) for _ in ids]
    content = {"ids": ids, "boxes": boxes, "scores": scores, "bbox_mode": BoxMode.XYXY_ABS}
    (tmp_path / "mine.pkl").write_bytes(pickle.dumps(content))
    words = ["MODEL.LOAD_PROPOSALS", True, "DATALOADER.NUM_WORKERS", 0]
    words += ["DATASETS.PROPOSAL_FILES_TRAIN", f"('{tmp_path}/mine.pkl',)"]
    run = describe_run(tiny_config(tmp_path, *words))
    assert len(next(iter(run.build_train_loader()))[0]["proposals"]) == 1


def tool_words(tool: str, file, folder) -> list[str]:
    """A command line of a tool that reads a weight file."""
    config = ["--config-file", str(DEMO / "relay_mask_rcnn_nl.yaml")]
    opts = ["--opts", *THIN, "MODEL.WEIGHTS", str(file)]
    output = ["--output", str(folder / "out")]
    convert = ["--source", "slowfast", "--output", str(folder / "new.pth"), "--place", "res4.4"]
    convert += ["--pairwise", "embedded_gaussian", "--pool", "1,2,2"]
    return {
        "demo": [*config, "--input", str(ROOT / "docs/demo_found.png"), *output, *opts],
        "explore": [*config, *opts],
        "export_model": [*config, "--format", "torchscript", *output, *opts],
        "publish_checkpoint": [str(file), "--name", "theirs/model", *output],
        "convert_weights": [*convert, "--input", str(file)],
        "convert_weights --base": [*convert, "--input", "block.pth", "--base", str(file)],
    }[tool]


TOOLS = ("demo", "explore", "export_model", "publish_checkpoint", "convert_weights")


@pytest.mark.parametrize("tool", [*TOOLS, "convert_weights --base"])
def test_a_tool_runs_nothing_in_weights(tool, marked, tmp_path, monkeypatch):
    module = load_tool(tool.split()[0])
    if tool == "explore":
        monkeypatch.setattr("nl_detectron.explorer.server.import_gradio", lambda folder: None)
    if tool.endswith("--base"):
        found = type("Found", (), {"model": {"a": torch.ones(1)}})
        monkeypatch.setattr("nl_detectron.convert.read_tensors", lambda file: {})
        monkeypatch.setattr("nl_detectron.convert.convert", lambda *args, **keys: found)
    with pytest.raises(UsageError) as caught:
        module.main(tool_words(tool, marked, tmp_path))
    assert_refused(str(caught.value), marked)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_reads_weights_that_the_user_trusts(tool, tmp_path, monkeypatch):
    ran = tmp_path / "it_ran"
    file = write_marked_file(tmp_path / "weights.pkl", ran)
    module = load_tool(tool)
    if tool == "explore":
        monkeypatch.setattr("nl_detectron.explorer.server.import_gradio", lambda folder: None)
        monkeypatch.setattr("nl_detectron.explorer.server.serve_page", pytest.fail)
        monkeypatch.setattr(
            "nl_detectron.explorer.page.build_page", lambda *args: sys.exit("a page")
        )
    words = tool_words(tool, file, tmp_path)
    with suppress(UsageError, SystemExit):  # most tools need more than one tensor
        module.main(["--trust-checkpoint", *words])
    assert ran.exists()


@pytest.mark.parametrize(
    ("add", "words", "checkpoints", "bases"),
    [
        (add_trust_arguments, ["--trust-checkpoint"], True, False),
        (add_trust_arguments, ["--allow-remote-base"], False, True),
        (add_checkpoint_argument, ["--trust-checkpoint"], True, False),
        (add_checkpoint_argument, [], False, False),
    ],
)
def test_a_users_own_program_can_take_the_same_options(add, words, checkpoints, bases):
    parser = ArgumentParser()
    add(parser)
    with trust_from_args(parser.parse_args(words)):
        assert (trusts_checkpoints(), trusts_remote_bases()) == (checkpoints, bases)
    assert not trusts_checkpoints() and not trusts_remote_bases()
