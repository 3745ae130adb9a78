"""A relay image, and its file."""

import pytest
from PIL import Image

from nl_detectron.data import Relay


@pytest.fixture(scope="module")
def image():
    return Relay(height=64, width=128, signal=24).draw("val", 0)[0]


@pytest.fixture
def file(image, tmp_path):
    Image.fromarray(image).save(tmp_path / "relay.png")
    return str(tmp_path / "relay.png")
