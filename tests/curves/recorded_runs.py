"""Runs that have recorded metrics.json, without a training."""

import json
from pathlib import Path

from detectron2.utils.events import EventStorage, JSONWriter


def write_run(folder, end, start=0, loss=1.0, period=50, ap=("segm/AP", "bbox/AP")) -> Path:
    """Write the metrics.json of a run with Detectron2's own writer: losses that fall from ``loss``
    by 0.001 an iteration, and AP of ten times ``loss``."""
    folder.mkdir(parents=True, exist_ok=True)
    with EventStorage(start) as storage:
        writer = JSONWriter(str(folder / "metrics.json"), window_size=1)
        for iteration in range(start, end):
            storage.iter = iteration
            for key in ("total_loss", "loss_mask"):
                storage.put_scalar(key, loss - 0.001 * iteration)
            if period and (iteration + 1) % period == 0:
                storage.put_scalars(**dict.fromkeys(ap, 10 * loss), smoothing_hint=False)
            if (iteration + 1) % 20 == 0 or iteration == end - 1:
                writer.write()
        writer.close()
    return folder


def write_metrics(file, *records) -> Path:
    """Write records, and text as it is."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(r if isinstance(r, str) else json.dumps(r) + "\n" for r in records))
    return file
