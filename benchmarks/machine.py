"""The machine that figures are measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def follow_train_net() -> None:
    """Have matrix products in float32 take TF32 where convs do, as runs of train_net.py have."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32


def machine() -> dict[str, Any]:
    """What a figure depends on, apart from the code."""
    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "tf32": cuda and torch.backends.cuda.matmul.allow_tf32,
        "system": platform.system(),
        "python": platform.python_version(),
        **{p: _version(p) for p in ("torch", "torchvision", "mmcv-lite", "mmengine")},
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
