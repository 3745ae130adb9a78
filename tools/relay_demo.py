#!/usr/bin/env python3
"""Train a Demo config on the relay data set, print its AP beside its twin's, draw predictions.

python tools/relay_demo.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml --seeds 1 2 3
"""

import argparse
import json
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances
from detectron2.utils.visualizer import ColorMode, Visualizer
from PIL import Image
from tabulate import tabulate

from nl_detectron.engine import Trainer, load_config, preflight, start_run
from nl_detectron.errors import UsageError

RECORD = Path(__file__).parent.parent / "docs" / "relay_demo.json"  # benchmarks/demo_seeds.py's
TASKS = {"box": "bbox/AP", "mask": "segm/AP", "keypoint": "keypoints/AP"}
SCORE = 0.5  # of the detections drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--start-from", metavar="FILE", help="a Demo config to train first")
    parser.add_argument("--output", default="output/relay_demo", help="folder of all runs")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE overrides")
    args = parser.parse_args()
    for seed in args.seeds:
        opts = list(args.opts)
        if args.start_from:
            weights = Path(args.output) / Path(args.start_from).stem / f"seed{seed}/model_final.pth"
            if not weights.exists():
                demonstrate(args.start_from, seed, args)
            opts += ["MODEL.WEIGHTS", str(weights)]
        demonstrate(args.config_file, seed, args, opts)


def demonstrate(config_file: str, seed: int, args: Namespace, opts: Sequence[str] = ()) -> None:
    """Run a config, print its table and say where its picture is."""
    name = Path(config_file).stem
    folder = Path(args.output) / name / f"seed{seed}"
    cfg = load_config(config_file, [*opts, "SEED", str(seed), "OUTPUT_DIR", str(folder)])
    results = run(cfg)
    print(
        f"\n{table(name, seed, results)}\n\nPredictions beside the truth: {folder}/predictions.png"
    )


def run(cfg: CfgNode) -> dict[str, float]:
    """Train, evaluate and draw; returns AP in percent by task, and minutes."""
    args = Namespace(config_file="", num_gpus=1, num_machines=1, eval_only=False, resume=False)
    preflight(cfg, args)
    start_run(cfg, args)
    began = time.perf_counter()
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=False)
    trainer.train()
    summary = json.loads(Path(cfg.OUTPUT_DIR, "summary.json").read_text())
    picture = Path(cfg.OUTPUT_DIR, "predictions.png")
    draw_predictions(cfg, trainer.model, picture)
    found = {task: summary["results"].get(key) for task, key in TASKS.items()}
    return {
        **{task: round(ap, 1) for task, ap in found.items() if ap is not None},
        "minutes": round((time.perf_counter() - began) / 60, 1),
        "versions": summary["versions"],
    }


def table(name: str, seed: int, results: dict) -> str:
    """This run's AP beside recorded runs of one thread, of the same config and of its twin."""
    twin = name.removesuffix("_nl") if name.endswith("_nl") else f"{name}_nl"
    kept = json.loads(RECORD.read_text()) if RECORD.exists() else []
    tasks = [task for task in TASKS if task in results]
    rows = [[f"{name}, seed {seed}, this run", *(f"{results[t]:.1f}" for t in tasks)]]
    for other in (name, twin):
        runs = [r for r in kept if r["name"] == other and r["threads"] == 1]
        if runs:
            values = [[r[t] for r in runs] for t in tasks]
            spread = (f"{np.mean(v):.1f} ({min(v):.1f} to {max(v):.1f})" for v in values)
            rows.append([f"{other}, {len(runs)} recorded runs", *spread])
    return tabulate(rows, headers=["held-out images", *(f"{t} AP" for t in tasks)])


@torch.no_grad()
def draw_predictions(cfg: CfgNode, model: torch.nn.Module, path: Path, count: int = 6) -> None:
    """Truth (left) and predictions (right) on the first validation images, as one PNG."""
    name = cfg.DATASETS.TEST[0]
    meta = MetadataCatalog.get(name)
    model.eval()
    rows = []
    for record in DatasetCatalog.get(name)[:count]:
        image = cv2.imread(record["file_name"])[:, :, ::-1]  # RGB, the Demo configs' INPUT.FORMAT
        tensor = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        found = model([{"image": tensor}])[0]["instances"].to("cpu")
        truth = Visualizer(image, meta, scale=2, instance_mode=ColorMode.SEGMENTATION)
        drawn = Visualizer(image, meta, scale=2, instance_mode=ColorMode.SEGMENTATION)
        record = {**record, "annotations": [_drawable(cfg, a) for a in record["annotations"]]}
        truth = truth.draw_dataset_dict(record).get_image()
        drawn = drawn.draw_instance_predictions(_confident(found)).get_image()
        rows.append(np.hstack([_framed(truth), _framed(drawn)]))
    # drawn large and halved, in few colours: noise makes PNGs huge
    picture = Image.fromarray(np.vstack(rows)).reduce(2)
    picture.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


def _framed(image: np.ndarray) -> np.ndarray:
    return np.pad(image, ((4, 4), (4, 4), (0, 0)), constant_values=255)


def _confident(instances: Instances) -> Instances:
    return instances[instances.scores > SCORE]


def _drawable(cfg: CfgNode, annotation: dict) -> dict:
    """The truth about what the model predicts, no more."""
    hidden = set()
    if not cfg.MODEL.KEYPOINT_ON:
        hidden.add("keypoints")
    if not cfg.MODEL.MASK_ON:
        hidden.add("segmentation")
    return {key: value for key, value in annotation.items() if key not in hidden}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"relay_demo.py: error: {error}")
