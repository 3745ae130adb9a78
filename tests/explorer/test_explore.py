"""tools/explore.py without its page: a user's mistakes."""

import os
import runpy
import signal
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from helpers import ROOT, load_tool
from thin_models import BASELINE, CONFIG, THIN

from nl_detectron.errors import UsageError
from nl_detectron.explorer import server
from nl_detectron.explorer.page import LONGEST_NAME, shorten
from nl_detectron.explorer.server import serve_page


@pytest.mark.parametrize(
    ("words", "reported"),
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
def test_a_mistake_is_reported_in_one_message(words, reported, monkeypatch):
    explore = load_tool("explore")
    monkeypatch.setattr(server, "import_gradio", lambda folder: None)
    with pytest.raises(UsageError) as caught:
        explore.main(words)
    assert reported in str(caught.value)


def test_a_port_that_is_taken_is_reported(monkeypatch):
    def launch(server_name, server_port, **_):
        assert server_name == "127.0.0.1"
        raise OSError("Cannot find empty port in range: 80-80")

    monkeypatch.setattr(signal, "signal", lambda *_: None)
    page = SimpleNamespace(launch=launch)
    with pytest.raises(UsageError, match="port 80: taken; name a free one with --port"):
        serve_page(MagicMock(), page, 80)


def test_the_address_is_printed_while_the_page_is_served(monkeypatch, capsys):
    waited = []
    page = SimpleNamespace(
        launch=lambda **_: (None, "http://127.0.0.1:7860/", None),
        block_thread=lambda: waited.append(capsys.readouterr().out),
    )
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    serve_page(MagicMock(), page, None)
    assert waited == ["Open http://127.0.0.1:7860/ in a browser; Ctrl+C ends it\n"]


def test_a_missing_requirement_is_reported_in_one_line(monkeypatch):
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setitem(sys.modules, "gradio", None)  # so that it does not import
    monkeypatch.setattr(sys, "argv", ["explore.py", "--config-file", CONFIG])
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(ROOT / "tools/explore.py"), run_name="__main__")
    assert caught.value.code.startswith("explore.py: error: the page needs gradio")
    assert caught.value.code.endswith("pip install -r requirements-explore.txt")
    assert "\n" not in caught.value.code


def test_a_long_name_keeps_its_beginning_and_its_end():
    assert shorten("00000.png") == "00000.png"
    for length in (LONGEST_NAME, LONGEST_NAME + 1, 200):
        name = "a" * (length - 8) + "0001.jpg"
        shown = shorten(name)
        assert len(shown) <= LONGEST_NAME + 1 and shown.endswith("0001.jpg") and shown[0] == "a"
        assert (shown == name) == (length <= LONGEST_NAME)
