"""Weight files and configs of strangers: nothing in them runs, and nothing is fetched unasked."""

import pickle
import runpy
import socket
import sys
from contextlib import redirect_stdout, suppress
from hashlib import sha256
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from config_kinds import ROOT
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode
from helpers import load_tool
from marked_files import write_marked_file

from nl_detectron import model_zoo
from nl_detectron.engine import (
    argument_parser,
    config_from_args,
    describe_run,
    load_config,
    load_run,
    trust,
    trust_from_args,
)
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


@pytest.mark.parametrize("suffix", ["pkl", "proposals"])
def test_proposals_run_nothing(suffix, marker, tiny_config, tmp_path):
    file = write_marked_file(tmp_path / "theirs.pkl", marker).rename(tmp_path / f"theirs.{suffix}")
    words = ["MODEL.LOAD_PROPOSALS", True, "DATASETS.PROPOSAL_FILES_TRAIN", f"('{file}',)"]
    run = describe_run(tiny_config(tmp_path, *words))
    with pytest.raises(UsageError) as caught:
        run.build_train_loader()
    assert_refused(str(caught.value), file)


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
        monkeypatch.setattr(module, "import_gradio", lambda folder: None)
    if tool.endswith("--base"):
        found = type("Found", (), {"model": {"a": torch.ones(1)}})
        monkeypatch.setattr(module, "read_tensors", lambda file: {})
        monkeypatch.setattr(module, "convert", lambda *args, **keys: found)
    with pytest.raises(UsageError) as caught:
        module.main(tool_words(tool, marked, tmp_path))
    assert_refused(str(caught.value), marked)


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_reads_weights_that_the_user_trusts(tool, tmp_path, monkeypatch):
    ran = tmp_path / "it_ran"
    file = write_marked_file(tmp_path / "weights.pkl", ran)
    module = load_tool(tool)
    if tool == "explore":
        monkeypatch.setattr(module, "import_gradio", lambda folder: None)
        monkeypatch.setattr(module, "serve_page", pytest.fail)
        monkeypatch.setattr(module, "build_page", lambda *args: sys.exit("a page"))
    words = tool_words(tool, file, tmp_path)
    with suppress(UsageError, SystemExit):  # most tools need more than one tensor
        module.main(["--trust-checkpoint", *words])
    assert ran.exists()


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


URL = "https://there/theirs/model-12345678.pth"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """What URL has: ``server(content)`` returns the SHA-256; downloads go into a cache here."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))

    def serve(content: bytes) -> str:
        def download(url, folder, *, filename):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / filename).write_bytes(content)
            return str(Path(folder) / filename)

        monkeypatch.setattr("iopath.common.file_io.download", download)
        return sha256(content).hexdigest()

    return serve


def weights_in_bytes(value: float) -> bytes:
    buffer = BytesIO()
    torch.save({"model": {"a": torch.full((2,), value)}}, buffer)
    return buffer.getvalue()


def test_a_checkpoint_is_held_against_its_sha256_after_fetching_and_from_the_cache(
    zoo, server, tmp_path
):
    expected = server(weights_in_bytes(1.0))
    zoo({"config": "model.yaml", "trained": {"checkpoint": URL, "sha256": expected}})
    (tmp_path / "zoo/model.yaml").write_text("MODEL: {DEVICE: cpu}\n")
    server(weights_in_bytes(2.0))  # replaced on the server
    for _ in range(2):
        with pytest.raises(UsageError, match=f"{URL}.*not {expected}.*removed from the cache"):
            model_zoo.get_config("theirs/model", trained=True)
        assert not list((tmp_path / "cache").rglob("*.pth"))
    server(weights_in_bytes(1.0))  # mended
    (cached,) = {model_zoo.fetch_checkpoint("theirs/model") for _ in range(2)}
    assert model_zoo.get_config("theirs/model", trained=True).MODEL.WEIGHTS == cached
    Path(cached).write_bytes(weights_in_bytes(3.0))  # replaced in the cache
    with pytest.raises(UsageError, match="removed from the cache"):
        model_zoo.get("theirs/model", trained=True)
    assert not Path(cached).exists()


def test_a_wrong_file_in_the_folder_of_an_index_is_refused_and_kept(zoo):
    folder = zoo({"trained": {"checkpoint": "model.pth", "sha256": 64 * "0"}, "config": "m.yaml"})
    (folder / "m.yaml").write_text("MODEL: {DEVICE: cpu}\n")
    (folder / "model.pth").write_bytes(weights_in_bytes(1.0))
    with pytest.raises(UsageError, match=r"model\.pth'.*damaged or was replaced$"):
        model_zoo.get_config("theirs/model", trained=True)
    assert (folder / "model.pth").exists()


@pytest.mark.parametrize("sha256", [None, "", "12345678", 64 * "g"])
def test_a_checkpoint_without_its_sha256_is_refused(zoo, sha256):
    zoo({"trained": {"checkpoint": URL, "sha256": sha256}})
    with pytest.raises(UsageError, match="needs sha256"):
        model_zoo.get_checkpoint_url("theirs/model")


def test_weights_of_a_zoo_run_nothing(zoo, marker, tmp_path):
    folder = tmp_path / "zoo"
    file = write_marked_file(folder / "model.pkl", marker)
    digest = sha256(file.read_bytes()).hexdigest()
    text = yaml.safe_dump({"MODEL": {"DEVICE": "cpu", "WEIGHTS": ""}})
    zoo({"config": "model.yaml", "trained": {"checkpoint": "model.pkl", "sha256": digest}})
    (folder / "model.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        model_zoo.get("theirs/model", trained=True)
    assert_refused(str(caught.value), file)


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


def test_a_base_on_another_server_is_fetched_if_allowed(server, no_network, tmp_path):
    server(b"SEED: 7\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: https://there/base.yaml\nVERSION: 2\n")
    with trust(remote_bases=True):
        assert load_config(str(tmp_path / "mine.yaml")).SEED == 7
    with pytest.raises(UsageError, match="--allow-remote-base"):
        load_config(str(tmp_path / "mine.yaml"))


def test_train_net_and_a_tool_have_a_flag_for_remote_bases(server, no_network, tmp_path):
    server(b"_BASE_: 7\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: https://there/other.yaml\n")
    words = ["--config-file", str(tmp_path / "mine.yaml")]
    analyze = load_tool("analyze_model").main
    for flag, error in (([], "--allow-remote-base"), (["--allow-remote-base"], "cannot be read")):
        with pytest.raises(UsageError, match=error):
            analyze([*words, *flag])
        args = argument_parser().parse_args([*words, *flag])
        with trust_from_args(args), pytest.raises(UsageError, match=error):
            config_from_args(args)


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


# --- LazyConfigs -------------------------------------------------------------------------------


def test_code_from_outside_the_package_is_said_once(tmp_path, arguments):
    inside = DEMO / "relay_mask_rcnn_nl.py"
    outside = tmp_path / "theirs.py"
    outside.write_text(
        "from detectron2.config import LazyConfig\n"
        f"theirs = LazyConfig.load({str(inside)!r})\n"
        "model, optimizer, lr_multiplier = theirs.model, theirs.optimizer, theirs.lr_multiplier\n"
        "dataloader, train = theirs.dataloader, theirs.train\n"
    )
    args = arguments("--config-file", str(outside))
    config_from_args(args)
    assert args.notes == [
        f"{outside} is Python code from outside this package and ran with your rights"
    ]
    load_run(str(inside), say=pytest.fail)
