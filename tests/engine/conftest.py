"""Tiny relay data sets and thin models, so that a training takes a second."""

import logging
import os
import socket
from argparse import Namespace
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import pytest
from coco_files import PLAIN, dataset_argument, restore_catalogues, valid_content, write
from config_kinds import KEYS, KINDS, ROOT, THIN, THIN_LAZY, TINY, WIDE
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig

from nl_detectron.engine import (
    Trainer,
    argument_parser,
    config_from_args,
    distributed,
    load_config,
    load_run,
    preflight,
    start_run,
)
from nl_detectron.errors import UsageError
from nl_detectron.relay import SPLITS, register_split, write_dataset


@pytest.fixture(scope="session")
def tiny_relay(tmp_path_factory):
    """Data sets tiny_train, tiny_val and the same of tiny_keypoints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NL_DETECTRON_CACHE", str(tmp_path_factory.mktemp("cache")))
        names = [f"{name}_{split}" for name in TINY for split in SPLITS]
        for name, relay in TINY.items():
            write_dataset(relay)
            for split in SPLITS:
                register_split(f"{name}_{split}", relay, split)
        yield
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.fixture(scope="session")
def tiny_config(tiny_relay):
    """Makes a Demo config thin, on tiny data: ``tiny_config(output, *overrides, config=...)``."""

    def make(output, *overrides, config="relay_mask_rcnn_nl") -> CfgNode:
        data = "tiny_keypoints" if "keypoint" in config else "tiny"
        sets = ["DATASETS.TRAIN", f"('{data}_train',)", "DATASETS.TEST", f"('{data}_val',)"]
        words = [*THIN, *sets, "OUTPUT_DIR", str(output), *map(str, overrides)]
        return load_config(str(ROOT / "configs" / "Demo" / f"{config}.yaml"), words)

    return make


@pytest.fixture(scope="session")
def tiny_of_kind(tiny_config):
    """Makes the same config of either kind: ``tiny_of_kind("lazy", output, max_iter=2)``."""

    def make(kind, output, **options) -> CfgNode | DictConfig:
        options = {"score_threshold": 0.0, **options}
        words = [(KEYS[name][KINDS.index(kind)], value) for name, value in options.items()]
        if kind == "yaml":
            return tiny_config(output, *WIDE, *(word for pair in words for word in pair))
        file = str(ROOT / "configs" / "Demo" / "relay_mask_rcnn_nl.py")
        words = [f"{key}={value}" for key, value in (*words, ("train.output_dir", output))]
        return load_run(file, [*THIN_LAZY, *words]).cfg

    return make


@pytest.fixture(scope="session")
def arguments():
    """Parses command line arguments as train_net.py does."""

    def parse(*words) -> Namespace:
        return argument_parser().parse_args(list(words))

    return parse


@contextmanager
def _restore_loggers():
    """Detectron2 gives loggers handlers and stops their propagation: caplog would see nothing."""
    loggers = [logging.getLogger(name) for name in ("detectron2", "fvcore", "nl_detectron")]
    before = [(log.level, log.propagate, log.handlers[:]) for log in loggers]
    try:
        yield
    finally:
        for log, (level, log.propagate, log.handlers[:]) in zip(loggers, before, strict=True):
            log.setLevel(level)


@pytest.fixture(scope="session")
def restore_loggers():
    return _restore_loggers


@pytest.fixture(scope="session")
def train(arguments):
    """Runs a training as train_net.py does and returns the trainer."""

    def run(cfg: CfgNode | DictConfig, *words) -> Trainer:
        args = arguments(*words)
        with _restore_loggers():
            start_run(cfg, args)
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            trainer.train()
        return trainer

    return run


@pytest.fixture(scope="session")
def trained(tiny_config, train, tmp_path_factory):
    """A finished run of 4 iterations of the non-local model: its ``cfg`` and ``folder``."""
    folder = tmp_path_factory.mktemp("trained")
    cfg = tiny_config(folder, "SOLVER.MAX_ITER", 4, "SOLVER.CHECKPOINT_PERIOD", 2)
    train(cfg)
    return SimpleNamespace(cfg=cfg, folder=folder)


@pytest.fixture
def own_catalogues():
    with restore_catalogues():
        yield


@pytest.fixture
def birds(tmp_path):
    """Writes a data set: ``birds(name, change)`` returns its --dataset arguments."""

    def make(name="birds_train", change=None) -> list[str]:
        content = valid_content()
        if change:
            change(content)
        return ["--dataset", dataset_argument(write(tmp_path, content, name))]

    return make


@pytest.fixture
def load_args(arguments):
    """Loads the config of a command line, whose first argument is the config file; returns it and
    the parsed arguments."""

    def parse(config, *words, opts=PLAIN):
        args = arguments("--config-file", str(config), *map(str, words), *map(str, opts))
        return config_from_args(args), args

    return parse


@pytest.fixture
def refusal(load_args):
    """Returns the message with which ``preflight`` refuses a command line."""

    def check(*words, **more) -> str:
        with pytest.raises(UsageError) as caught:
            preflight(*load_args(*words, **more))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return check


@pytest.fixture
def override_refusal(tiny_config, tmp_path, arguments):
    """The error's text, for overrides of the tiny config and words of the command line."""

    def check(*overrides, words=()) -> str:
        cfg = tiny_config(tmp_path / "run", *overrides)
        with pytest.raises(UsageError) as caught:
            preflight(cfg, arguments(*words))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return check


@pytest.fixture
def marker(tmp_path):
    """A file that no test may create."""
    yield tmp_path / "it_ran"
    assert not (tmp_path / "it_ran").exists()


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test that looks a host up or connects to one."""

    def refuse(*args, **keys):
        pytest.fail(f"asked the network for {args}")

    for name in ("getaddrinfo", "create_connection", "gethostbyname"):
        monkeypatch.setattr(socket, name, refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serves a file at any URL: ``server(content)`` returns its SHA-256."""
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path / "cache"))

    def serve(content: bytes) -> str:
        def download(url, folder, *, filename):
            Path(folder).mkdir(parents=True, exist_ok=True)
            (Path(folder) / filename).write_bytes(content)
            return str(Path(folder) / filename)

        monkeypatch.setattr("iopath.common.file_io.download", download)
        return sha256(content).hexdigest()

    return serve


@pytest.fixture(scope="module")
def environment():
    """One thread in each process, as many processes share few cores, and no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", ""))
        patch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
        yield patch


@pytest.fixture(scope="module")
def two_processes(environment):
    """Calls a function in each of two processes: ``two_processes(function, *its_arguments)``."""

    def run(function, *words) -> None:
        line = ["--num-gpus", "2", "--dist-url", "auto", "MODEL.DEVICE", "cpu"]
        distributed.launch(function, words, argument_parser().parse_args(line), "cpu")

    return run
