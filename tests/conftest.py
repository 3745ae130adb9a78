"""What all tests share: a fixed seed, real images, and GPU tests skipped where there is no GPU."""

import os
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def pytest_collection_modifyitems(items):
    # Files with slow tests first, so that no worker is left with one of them at the end.
    slow = {item.path for item in items if "slow" in item.keywords or "several" in item.keywords}
    items.sort(key=lambda item: item.path not in slow)
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real COCO images and ImageNet weights, which is no part of the project."""
    folder = Path(os.environ.get("NL_DETECTRON_SHARED") or ROOT.parent / "shared").resolve()
    if not (folder / "coco_mini").is_dir():
        pytest.skip(f"no real images at {folder}; NL_DETECTRON_SHARED names their folder")
    return folder
