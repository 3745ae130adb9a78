"""A relay image, and its file; gradio; a browser."""

import os

import pytest
from browsers import CHROMIUM, FLAGS
from PIL import Image

from nl_detectron.explorer import server
from nl_detectron.relay import Relay, draw_image


@pytest.fixture(scope="module")
def image():
    return draw_image(Relay(height=64, width=128, signal=24), "val", 0)[0]


@pytest.fixture
def file(image, tmp_path):
    Image.fromarray(image).save(tmp_path / "relay.png")
    return str(tmp_path / "relay.png")


@pytest.fixture
def gr(tmp_path, monkeypatch):
    """Gradio, whose environment variables end with the test."""
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return server.import_gradio(str(tmp_path / "gradio"))


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()
