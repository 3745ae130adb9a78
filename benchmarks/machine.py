"""The machine and the versions that figures are measured with."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def follow_train_net() -> None:
    """Let float32 matrix products use TF32 if convs do, as in runs of train_net.py."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32


def machine() -> dict[str, Any]:
    """Everything that a figure depends on except the code: hardware, threads and versions."""
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
