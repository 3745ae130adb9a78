"""One run of the relay demo: train, evaluate, draw, compare with recorded runs."""

import json
import time
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from tabulate import tabulate

from .config import is_video
from .engine import Trainer, preflight, start_run
from .modeling import find_blocks
from .prediction.clip_attention import save_attention_of_videos
from .prediction.comparison import save_comparison
from .prediction.overview import save_overview
from .prediction.video_comparison import save_video_comparison

PREDICTIONS, ATTENTION = "predictions.png", "attention.png"  # in OUTPUT_DIR
TASKS = {
    "box": "bbox/AP",
    "mask": "segm/AP",
    "keypoint": "keypoints/AP",
    "video": "video/top1",
}


def train_relay_demo(cfg: CfgNode) -> dict[str, Any]:
    """Train, evaluate and draw :data:`PREDICTIONS` and, of a model with blocks, :data:`ATTENTION`.

    Returns:
        AP, or accuracy of videos, in percent for each of :data:`TASKS` that the model has;
        ``minutes`` and ``versions``.

    Raises:
        UsageError: of :func:`preflight`.
    """
    args = Namespace(config_file="", num_gpus=1, num_machines=1, eval_only=False, resume=False)
    preflight(cfg, args)
    start_run(cfg, args)
    began = time.perf_counter()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    summary = json.loads(Path(cfg.OUTPUT_DIR, "summary.json").read_text())
    compare, overview = (
        (save_video_comparison, save_attention_of_videos)
        if is_video(cfg)
        else (save_comparison, save_overview)
    )
    compare(cfg, trainer.model, Path(cfg.OUTPUT_DIR, PREDICTIONS))
    if find_blocks(trainer.model):
        overview(cfg, trainer.model, Path(cfg.OUTPUT_DIR, ATTENTION))
    found = {task: summary["results"].get(key) for task, key in TASKS.items()}
    return {
        **{task: round(ap, 1) for task, ap in found.items() if ap is not None},
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": summary["versions"],
    }


def format_table(
    name: str, seed: int, results: Mapping[str, Any], recorded: Sequence[Mapping[str, Any]]
) -> str:
    """A run's AP beside recorded runs of one thread, of the same config and of its twin.

    Args:
        name: of the config, without a suffix.
        results: of :func:`train_relay_demo`.
        recorded: results of earlier runs, each with ``name`` and ``threads``.
    """
    twin = name.removesuffix("_nl") if name.endswith("_nl") else f"{name}_nl"
    tasks = [task for task in TASKS if task in results]
    rows = [[f"{name}, seed {seed}, this run", *(f"{results[t]:.1f}" for t in tasks)]]
    for other in (name, twin):
        runs = [r for r in recorded if r["name"] == other and r["threads"] == 1]
        if runs:
            values = [[r[t] for r in runs] for t in tasks]
            spread = (f"{np.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in values)
            rows.append([f"{other}, {len(runs)} recorded runs", *spread])
    if tasks == ["video"]:
        return tabulate(rows, headers=["held-out videos", "top-1 accuracy"])
    return tabulate(rows, headers=["held-out images", *(f"{t} AP" for t in tasks)])
