"""Where trained blocks look, and what they need of it: ``python -m benchmarks.evidence.attention``.

Of the demo's model (``make demo``) and those of Table H (``make evidence``): how much of the
weights falls on the signal, and what becomes of the class without the signal's positions.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision.ops import box_iou

from nl_detectron.data import RELAY_DATASETS, Relay
from nl_detectron.engine import Checkpointer, UsageError, load_config
from nl_detectron.engine.hooks import versions
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.visualization import View, area_share, look, share, without

from .results import mean
from .runs import MATCHERS, OUTPUT, ROOT, RUNS, TABLES
from .train import FULL, save

RESULT = Path(__file__).parent / "results" / "attention.json"
DEMO = "configs/Demo/relay_mask_rcnn_nl.yaml"
DEMO_WEIGHTS = ROOT / "output/relay_demo/relay_mask_rcnn_nl/seed1/model_final.pth"
IMAGES = 100
MARGINS = (0, 16, 32, 48)  # pixels around the signal that are left out with it
FOUND = 0.5  # IoU


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--demo-weights", type=Path, default=DEMO_WEIGHTS)
    args = parser.parse_args()
    subjects = {"demo": measure(*demo(args.demo_weights), RELAY_DATASETS["relay"])}
    for name in MATCHERS:
        if name != "baseline":
            seed = TABLES["H"][name][1][0]
            subjects[f"pairs_{name}"] = measure(*trained(f"pairs_{name}", seed))
    text = json.dumps({"subjects": subjects, "versions": versions()}, indent=1) + "\n"
    save(RESULT, lambda path: path.write_text(text))


def demo(weights: Path) -> tuple[nn.Module, int]:
    """The demo's model, and the shorter side of its images."""
    if not weights.exists():
        raise UsageError(f"there is no {weights}: run make demo first")
    cfg = load_config(str(ROOT / DEMO), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    Checkpointer(model).load(str(weights))
    return model, cfg.INPUT.MIN_SIZE_TEST


def trained(name: str, seed: int) -> tuple[nn.Module, int, Relay]:
    """A run's model, the shorter side of its images, and its data set."""
    run = RUNS[name]
    weights = FULL.weights(run, seed)
    if not weights.exists():
        raise UsageError(f"there is no {weights}: run make evidence first")
    model = build_model(run.config(seed, OUTPUT))
    Checkpointer(model).load(str(weights))
    return model, run.data.height, run.data


def measure(model: nn.Module, side: int, relay: Relay) -> dict:
    """Shares on the signals and class accuracies, on held-out images."""
    model.eval()
    rng, objects = random.Random(0), []
    for number in range(IMAGES):
        image, annotations = relay.draw("val", number)
        objects += _objects(model, image, annotations, side, rng)
    keys = [key for key in objects[0] if all(key in o for o in objects)]
    return {"objects": len(objects)} | {key: told([o[key] for o in objects]) for key in keys}


def told(values: list[float]) -> dict[str, float]:
    spread = {q: float(np.quantile(values, q / 100)) for q in (10, 50, 90)}
    return {"mean": round(mean(values), 4), **{f"p{q}": round(v, 4) for q, v in spread.items()}}


def _objects(
    model: nn.Module, image: np.ndarray, annotations: list[dict], side: int, rng: random.Random
) -> Iterator[dict[str, float]]:
    """Of each object of an image, all that is measured."""
    [(name, block)] = find_blocks(model).items()
    [view] = look(model, [image], (side, 9999))
    for own, annotation in enumerate(annotations):
        x, y, w, h = annotation["bbox"]
        attention = view.attention(x + w / 2, y + h / 2, name)
        signals = [_box(a["signal"]) for a in annotations]
        found = {"right": _right(view, annotation), "area": area_share(attention, signals[own])}
        for what in ("weights", "contributions"):
            shares = [share(attention, signal, what) for signal in signals]
            found[f"{what} on signal"] = shares[own]
            others = shares[:own] + shares[own + 1 :]
            if others:
                found[f"{what} on the other signal"] = mean(others)
                found[f"more {what} on its own"] = float(shares[own] > max(others))
        for margin in MARGINS:
            left_out = attention.grid.covered(_wider(signals[own], margin)) > 0
            with without(block, left_out):
                [blind] = look(model, [image], (side, 9999))
            found[f"right without signal, margin {margin}"] = _right(blind, annotation)
            others = _random(left_out, rng)
            if others is not None:
                with without(block, others):
                    [spared] = look(model, [image], (side, 9999))
                found[f"right without others, margin {margin}"] = _right(spared, annotation)
        yield found


def _random(left_out: np.ndarray, rng: random.Random) -> np.ndarray | None:
    """As many positions of the others; None where there are not so many."""
    free = np.flatnonzero(~left_out)
    if len(free) <= left_out.sum():
        return None
    chosen = np.zeros(left_out.size, dtype=bool)
    chosen[rng.sample(free.tolist(), int(left_out.sum()))] = True
    return chosen.reshape(left_out.shape)


def _right(view: View, annotation: dict) -> float:
    """1 where the surest detection of the object has its class, else 0."""
    found = view.instances
    box = torch.tensor([_box(annotation["bbox"])])
    here = box_iou(found.pred_boxes.tensor, box)[:, 0] > FOUND
    if not here.any():
        return 0.0
    return float(found.pred_classes[here][0].item() + 1 == annotation["category_id"])


def _box(xywh: list[float]) -> tuple[float, float, float, float]:
    x, y, w, h = xywh
    return x, y, x + w, y + h


def _wider(box: tuple[float, ...], margin: float) -> tuple[float, ...]:
    x0, y0, x1, y1 = box
    return x0 - margin, y0 - margin, x1 + margin, y1 + margin


if __name__ == "__main__":
    main()
