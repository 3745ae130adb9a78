"""Weight files and configs of strangers: nothing in them runs, and nothing is fetched unasked."""

import runpy
import socket
import sys
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch
import yaml
from config_kinds import ROOT
from helpers import load_tool
from marked_files import write_marked_file

from nl_detectron import model_zoo
from nl_detectron.engine import load_config
from nl_detectron.errors import UsageError

DEMO = ROOT / "configs/Demo"
SUFFIXES = (".pkl", ".pth", ".pyth")
THIN = [
    *("MODEL.DEVICE", "cpu", "MODEL.RESNETS.WIDTH_PER_GROUP", "4"),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "INPUT.MIN_SIZE_TEST", "64"),
]


@pytest.fixture
def marker(tmp_path):
    """A file that no test may create."""
    yield tmp_path / "it_ran"
    assert not (tmp_path / "it_ran").exists()


@pytest.fixture(params=SUFFIXES)
def marked(request, tmp_path, marker):
    """A file of weights whose code would create the marker."""
    return write_marked_file(tmp_path / f"weights{request.param}", marker)


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test that looks a host up or connects to one."""

    def refuse(*args, **keys):
        pytest.fail(f"asked the network for {args}")

    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


def train_net(monkeypatch, *words) -> str:
    """Run train_net.py in this process; returns the message with which it ends."""
    monkeypatch.setattr(sys, "argv", ["train_net.py", *map(str, words)])
    with pytest.raises(SystemExit) as caught, redirect_stdout(StringIO()):
        runpy.run_path(str(ROOT / "train_net.py"), run_name="__main__")
    return str(caught.value.code)


def assert_refused(message: str, file) -> None:
    """One line with the file, what it asks for, the flag and the risk."""
    assert "\n" not in message
    for part in (str(file), "open", "--trust-checkpoint", "run any code"):
        assert part in message


# --- weights -----------------------------------------------------------------------------------


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


def tool_words(tool: str, file, folder) -> list[str]:
    """A command line of a tool that reads a weight file."""
    config = ["--config-file", str(DEMO / "relay_mask_rcnn_nl.yaml")]
    opts = ["--opts", *THIN, "MODEL.WEIGHTS", str(file)]
    output = ["--output", str(folder / "out")]
    convert = ["--source", "slowfast", "--output", str(folder / "new.pth"), "--place", "res4.4"]
    convert += ["--pairwise", "embedded_gaussian", "--pool", "1,2,2"]
    return {
        "demo": [*config, "--input", str(DEMO), *output, *opts],
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
        monkeypatch.setattr(module, "import_gradio", lambda folder: None)
    if tool == "demo":
        monkeypatch.setattr(module, "find_sources", lambda *args: [])
    if tool.endswith("--base"):
        found = type("Found", (), {"model": {"a": torch.ones(1)}})
        monkeypatch.setattr(module, "read_tensors", lambda file: {})
        monkeypatch.setattr(module, "convert", lambda *args, **keys: found)
    with pytest.raises(UsageError) as caught:
        module.main(tool_words(tool, marked, tmp_path))
    assert_refused(str(caught.value), marked)


# --- the model zoo -----------------------------------------------------------------------------


@pytest.fixture
def zoo(tmp_path, monkeypatch):
    """Writes an index of a zoo with one entry, "theirs/model"."""
    folder = tmp_path / "zoo"
    folder.mkdir()

    def write(entry):
        (folder / "index.yaml").write_text(yaml.safe_dump({"theirs/model": entry}))
        monkeypatch.setenv("NL_DETECTRON_ZOO", str(folder / "index.yaml"))
        return folder

    return write


def test_a_python_config_of_an_index_does_not_run(zoo, marker):
    folder = zoo({"config": "model.py"})
    (folder / "model.py").write_text(f"open({str(marker)!r}, 'w')\nmodel = train = {{}}\n")
    for name in ("theirs/model.py", "theirs/model"):
        with pytest.raises(UsageError, match=r"model\.py.*is Python code"):
            model_zoo.get_config(name)


@pytest.mark.parametrize("place", ["../{}", "/{}", "sub/../../{}"])
@pytest.mark.parametrize("key", ["config", "checkpoint"])
def test_a_path_that_leaves_the_folder_of_an_index_is_refused(zoo, key, place):
    path = place.format("model.yaml" if key == "config" else "model.pth")
    zoo({"config": path} if key == "config" else {"trained": {"checkpoint": path}})
    with pytest.raises(UsageError, match=f"theirs/model.*{path}.*leaves its folder"):
        model_zoo.get_config("theirs/model")


def test_a_link_out_of_the_folder_of_an_index_is_refused(zoo, tmp_path):
    folder = zoo({"config": "model.yaml"})
    (tmp_path / "secret.yaml").write_text("MODEL: {}\n")
    (folder / "model.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(UsageError, match="leaves its folder"):
        model_zoo.get_config("theirs/model")


# --- base configs ------------------------------------------------------------------------------

BASES = ["http://there/base.yaml", "https://there/base.yaml", "s3://there/base.yaml"]
BASES += ["detectron2://base.yaml", ["nothing.yaml", "http://there/base.yaml"]]


@pytest.mark.parametrize("base", BASES, ids=str)
@pytest.mark.parametrize("nested", [False, True])
def test_a_base_on_another_server_is_not_fetched(base, nested, no_network, tmp_path):
    (tmp_path / "nothing.yaml").write_text("MODEL: {}\n")
    (tmp_path / "theirs.yaml").write_text(yaml.safe_dump({"_BASE_": base}))
    (tmp_path / "mine.yaml").write_text("_BASE_: theirs.yaml\n")
    file = tmp_path / ("mine.yaml" if nested else "theirs.yaml")
    with pytest.raises(UsageError, match=r"_BASE_.*://.*--allow-remote-base") as caught:
        load_config(str(file))
    assert "\n" not in str(caught.value)


def test_a_config_on_another_server_is_not_fetched(no_network):
    for name in ("http://there/model.yaml", "https://there/model.py"):
        with pytest.raises(UsageError, match="is a URL: download it"):
            load_config(name)


def test_a_yaml_tag_that_calls_something_is_refused(tmp_path, marker):
    text = f"MODEL: !!python/object/apply:builtins.open ['{marker}', 'w']\n"
    (tmp_path / "theirs.yaml").write_text(text)
    (tmp_path / "mine.yaml").write_text("_BASE_: theirs.yaml\n")
    for name in ("theirs.yaml", "mine.yaml"):
        with pytest.raises(UsageError, match="cannot be read"):
            load_config(str(tmp_path / name))
