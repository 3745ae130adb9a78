"""Measures where trained blocks attend to: ``python -m benchmarks.evidence.attention``.

For the demo's model (``make demo``) and those of Table H (``make evidence``), it measures which
share of the weights falls on the signal, and how often the class is still right without the
signal's positions. It writes a JSON file and two pictures; ``report`` makes the tables of
docs/attention.md from the JSON file.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from tabulate import tabulate
from torch import nn
from torchvision.ops import box_iou

from nl_detectron.attention import (
    AttentionRecord,
    area_share,
    mask_positions,
    record_attention,
    share,
)
from nl_detectron.attention.draw import panel
from nl_detectron.engine import Checkpointer, load_config
from nl_detectron.engine.hooks import versions
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model, find_blocks
from nl_detectron.relay import RELAY_DATASETS, Relay, draw_image

from .results import mean
from .runs import FORMS, OUTPUT, ROOT, RUNS, TABLES
from .train import FULL, save

RESULT = Path(__file__).parent / "results" / "attention.json"
DEMO = "configs/Demo/relay_mask_rcnn_nl.yaml"
DEMO_WEIGHTS = ROOT / "output/relay_demo/relay_mask_rcnn_nl/seed1/model_final.pth"
IMAGES = 100  # if they have one object each; otherwise as many objects in fewer images
DOCS = ROOT / "docs"
PICTURES = {"demo": "attention_relay.png", "pairs_embedded_gaussian": "attention_pairs.png"}
MARGINS = (0, 16, 32, 48)  # pixels around the signal that are left out with it
NEAR = 16  # pixels around the signal, where features of res4 have seen it too
MATCHING_IOU = 0.5  # of a detection and the object that it detects
WHATS = ("weights", "contributions")
ROWS = 3  # in a picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--demo-weights", type=Path, default=DEMO_WEIGHTS)
    args = parser.parse_args()
    subjects = {"demo": demo(args.demo_weights)}
    for form in FORMS:
        name, seeds = TABLES["H"][form]
        here = [seed for seed in seeds if FULL.weights(RUNS[name], seed).exists()]
        if here:
            subjects[name] = trained(name, here[0])
        else:
            print(f"no weights of {name}: run make evidence first")
    measured = {}
    for name, subject in subjects.items():
        print(name, flush=True)
        measured[name] = measure(*subject)
    text = json.dumps({"subjects": measured, "versions": versions()}, indent=1) + "\n"
    save(RESULT, lambda path: path.write_text(text))
    for name in PICTURES.keys() & subjects.keys():
        picture(*subjects[name]).savefig(DOCS / PICTURES[name], dpi=80)


def demo(weights: Path) -> tuple[nn.Module, int, Relay]:
    """The demo's model, the shorter side of its images in pixels, and its data set."""
    if not weights.exists():
        raise UsageError(f"there is no {weights}: run make demo first")
    cfg = load_config(str(ROOT / DEMO), ["MODEL.DEVICE", "cpu"])
    model = build_model(cfg)
    Checkpointer(model).load(str(weights))
    return model, cfg.INPUT.MIN_SIZE_TEST, RELAY_DATASETS["relay"]


def trained(name: str, seed: int) -> tuple[nn.Module, int, Relay]:
    """A run's model, the shorter side of its images in pixels, and its data set."""
    run = RUNS[name]
    model = build_model(run.config(seed, OUTPUT))
    Checkpointer(model).load(str(FULL.weights(run, seed)))
    return model, run.data.height, run.data


def measure(model: nn.Module, side: int, relay: Relay) -> dict:
    """Measure shares of weights on the signals, and class accuracies, on held-out images."""
    model.eval()
    rng, objects = random.Random(0), []
    for number in range(IMAGES // relay.pairs):
        image, annotations = draw_image(relay, "val", number)
        objects += _measure_objects(model, image, annotations, side, rng)
    keys = [key for key in objects[0] if all(key in o for o in objects) and key != "class"]
    summaries = {key: summarize([o[key] for o in objects]) for key in keys}
    for key in (key for key in keys if key.startswith("right")):
        summaries[key]["balanced"] = average_over_classes([(o["class"], o[key]) for o in objects])
    return {"objects": len(objects), **summaries}


def picture(model: nn.Module, side: int, relay: Relay) -> Figure:
    """Draw the attention of objects: the first of each class, or, in images with several objects,
    the first ones whose own signal has more weight than the other signals."""
    model.eval()
    [name] = find_blocks(model)
    records, rows, titles = [], [], []
    for number in range(IMAGES):
        image, annotations = draw_image(relay, "val", number)
        [record] = record_attention(model, [image], (side, 9999))
        for own, annotation in enumerate(annotations):
            colour = relay.classes[annotation["category_id"] - 1]
            attention = record.attention(*_centre(annotation), name)
            shares = [share(attention, _box(a["signal"])) for a in annotations]
            if shares[own] == max(shares) and (relay.pairs > 1 or colour not in titles):
                records.append(record)
                rows.append({name: attention})
                titles.append(colour)
        if len(rows) >= ROWS:
            break
    return panel(rows[:ROWS], records[:ROWS], titles[:ROWS])


def tables(subjects: dict[str, dict]) -> Iterator[tuple[str, str]]:
    """Names and texts of the tables of docs/attention.md, from the subjects in the JSON file."""
    rows = []
    for name, f in subjects.items():
        cells = [name, f["objects"], percent(f["area"])]
        cells += [percent(f[f"{what} on signal"]) for what in WHATS]
        cells += [percent(f[f"{what} near it"]) for what in ("area", WHATS[0])]
        other = [f"{what} on another signal" for what in WHATS]
        cells += [percent(f[key]) if key in f else "–" for key in other]
        own = f"more {WHATS[0]} on its own"
        rows.append([*cells, f"{100 * f[own]['mean']:.0f} %" if own in f else "–"])
    heads = ["", "objects", "area of signal", *(f"{what} on signal" for what in WHATS)]
    heads += [f"{what} with {NEAR} px around" for what in ("area", WHATS[0])]
    heads += [*(f"{what} on another signal" for what in WHATS), "most weight on own signal"]
    yield "shares", tabulate(rows, heads, "pipe", disable_numparse=True)

    rows = []
    for name, f in subjects.items():
        for kind in ("signal", "others"):
            cells = [f.get(f"right without {kind}, margin {margin}") for margin in MARGINS]
            shown = ["–" if c is None else f"{100 * c['balanced']:.0f} %" for c in cells]
            what = "its signal" if kind == "signal" else "as many other positions at random"
            rows.append([name, what, f"{100 * f['right']['balanced']:.0f} %", *shown])
    heads = ["", "left out", "nothing left out", *(f"margin {margin}" for margin in MARGINS)]
    yield "without", tabulate(rows, heads, "pipe", disable_numparse=True)


def percent(f: dict[str, float]) -> str:
    """Mean with the 10th and 90th percentiles."""
    mean, low, high = (100 * f[key] for key in ("mean", "p10", "p90"))
    return f"{mean:.1f} ({low:.1f} to {high:.1f}) %"


def summarize(values: list[float]) -> dict[str, float]:
    spread = {q: float(np.quantile(values, q / 100)) for q in (10, 50, 90)}
    return {"mean": round(mean(values), 4), **{f"p{q}": round(v, 4) for q, v in spread.items()}}


def average_over_classes(values: list[tuple[int, float]]) -> float:
    """Mean of the means of each class, of (class, value). Always naming the same one of three
    classes gives a third."""
    by_class = {kind: [v for k, v in values if k == kind] for kind, _ in values}
    return round(mean([mean(class_values) for class_values in by_class.values()]), 4)


def _measure_objects(
    model: nn.Module, image: np.ndarray, annotations: list[dict], side: int, rng: random.Random
) -> Iterator[dict[str, float]]:
    """Shares and accuracies of each object of an image."""
    [(name, block)] = find_blocks(model).items()
    [record] = record_attention(model, [image], (side, 9999))
    for own, annotation in enumerate(annotations):
        attention = record.attention(*_centre(annotation), name)
        signals = [_box(a["signal"]) for a in annotations]
        measured = {"class": annotation["category_id"], "right": _is_right(record, annotation)}
        measured["area"] = area_share(attention, signals[own])
        measured["area near it"] = area_share(attention, _enlarge(signals[own], NEAR))
        for what in WHATS:
            shares = [share(attention, signal, what) for signal in signals]
            measured[f"{what} on signal"] = shares[own]
            measured[f"{what} near it"] = share(attention, _enlarge(signals[own], NEAR), what)
            others = shares[:own] + shares[own + 1 :]
            if others:
                measured[f"{what} on another signal"] = mean(others)
                measured[f"more {what} on its own"] = float(shares[own] > max(others))
        for margin in MARGINS:
            left_out = attention.grid.covered(_enlarge(signals[own], margin)) > 0
            with mask_positions(block, left_out):
                [without] = record_attention(model, [image], (side, 9999))
            measured[f"right without signal, margin {margin}"] = _is_right(without, annotation)
            others = _choose_others(left_out, rng)
            if others is not None:
                with mask_positions(block, others):
                    [without] = record_attention(model, [image], (side, 9999))
                measured[f"right without others, margin {margin}"] = _is_right(without, annotation)
        yield measured


def _choose_others(left_out: np.ndarray, rng: random.Random) -> np.ndarray | None:
    """Choose as many of the other positions at random; None if there are too few."""
    free = np.flatnonzero(~left_out)
    if len(free) <= left_out.sum():
        return None
    chosen = np.zeros(left_out.size, dtype=bool)
    chosen[rng.sample(free.tolist(), int(left_out.sum()))] = True
    return chosen.reshape(left_out.shape)


def _is_right(record: AttentionRecord, annotation: dict) -> float:
    """1 if the detection of the object with the highest score has its class, else 0."""
    detections = record.instances
    box = torch.tensor([_box(annotation["bbox"])])
    here = box_iou(detections.pred_boxes.tensor, box)[:, 0] > MATCHING_IOU
    if not here.any():
        return 0.0
    return float(detections.pred_classes[here][0].item() + 1 == annotation["category_id"])


def _centre(annotation: dict) -> tuple[float, float]:
    x, y, w, h = annotation["bbox"]
    return x + w / 2, y + h / 2


def _box(xywh: list[float]) -> tuple[float, float, float, float]:
    x, y, w, h = xywh
    return x, y, x + w, y + h


def _enlarge(box: tuple[float, ...], margin: float) -> tuple[float, ...]:
    x0, y0, x1, y1 = box
    return x0 - margin, y0 - margin, x1 + margin, y1 + margin


if __name__ == "__main__":
    main()
