"""Runs on photographs: ``python -m benchmarks.evidence.real --coco DIR --weights R-50.pth``.

Mask R-CNN with and without a block in res4 memorises sixteen images of COCO, from ImageNet weights.
This shows that a block trains there without harm; it does not measure a gain.
"""

import argparse
import json
import time
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.utils.env import seed_all_rng

from nl_detectron.data.subset import subset
from nl_detectron.engine import Checkpointer, load_config
from nl_detectron.engine.hooks import versions
from nl_detectron.modeling import build_model

from .evaluate import evaluate
from .runs import OUTPUT, ROOT, nonlocal_
from .settings import REAL, REAL_IMAGES, REAL_OPTS, REAL_SEEDS
from .train import save, to_memory_format, train

RESULTS = Path(__file__).parent / "results"
CONFIG = ROOT / "configs/COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml"
TWINS = {"real_baseline": (), "real_embedded_gaussian": nonlocal_()}
DATA = "evidence_real"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--coco", type=Path, required=True, help="folder of COCO, in its layout")
    parser.add_argument("--weights", required=True, help="an ImageNet R-50 in Detectron2's format")
    parser.add_argument("--name", choices=TWINS, nargs="+", default=list(TWINS))
    parser.add_argument("--seeds", type=int, nargs="+", default=REAL_SEEDS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    for seed in args.seeds:
        for name in args.name:
            path = args.results / f"{name}-seed{seed}.json"
            if path.exists():
                print(f"{path} is there")
                continue
            result = perform(name, seed, args.coco, args.weights)
            text = json.dumps(result, indent=1) + "\n"
            save(path, lambda part, text=text: part.write_text(text))


def perform(name: str, seed: int, coco: Path, weights: str) -> dict:
    """Train one of the models and evaluate it on the images that it was trained on."""
    began = time.perf_counter()
    register(coco)
    cfg = config(name, seed, weights)
    seed_all_rng(seed)
    model = to_memory_format(build_model(cfg), cfg)
    Checkpointer(model).load(weights)
    result = {"run": name, "seed": seed} | train(cfg, model, seed, REAL, DATA)
    minutes = round((time.perf_counter() - began) / 60, 2)
    return {**result, "ap": evaluate(cfg, model, DATA), "minutes": minutes, "versions": versions()}


def config(name: str, seed: int, weights: str) -> CfgNode:
    opts = ["MODEL.WEIGHTS", weights, "MODEL.DEVICE", "cpu", "SEED", str(seed)]
    opts += ["DATASETS.TRAIN", f"('{DATA}',)", "DATASETS.TEST", f"('{DATA}',)"]
    opts += ["OUTPUT_DIR", str(OUTPUT / "runs" / f"{name}-seed{seed}")]
    return load_config(str(CONFIG), [*opts, *REAL_OPTS, *TWINS[name]])


def register(coco: Path) -> None:
    """Register the first images of train2017 that have few objects, as the data set ``DATA``."""
    content = json.loads((coco / "annotations" / "instances_train2017.json").read_text())
    path = OUTPUT / "real.json"
    chosen = json.dumps(subset(content, *REAL_IMAGES))
    save(path, lambda part: part.write_text(chosen))
    if DATA not in DatasetCatalog.list():
        register_coco_instances(DATA, {}, str(path), str(coco / "train2017"))


if __name__ == "__main__":
    main()
