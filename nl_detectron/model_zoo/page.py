"""Writes the tables of MODEL_ZOO.md from the index: ``python -m nl_detectron.model_zoo.page``."""

import re
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from .index import Index, shipped
from .zoo import baseline_url

PAGE = Path(__file__).parents[2] / "MODEL_ZOO.md"  # in a clone
NOTHING = "–"
# for each task: the metrics that are compared, and their keys in the results
TASKS = {
    "bbox": ("box AP", "bbox/AP"),
    "segm": ("mask AP", "segm/AP"),
    "keypoints": ("keypoint AP", "keypoints/AP"),
    "panoptic_seg": ("PQ", "panoptic_seg/PQ"),
    "video": ("top-1 / top-5", "video/top1", "video/top5"),
    "multi_label": ("mAP", "video/mAP"),
}
TABLES = {  # tasks of the models, by the table's name in the index
    "detection": ("bbox",),
    "instances": ("bbox", "segm"),
    "more": ("bbox", "segm"),
    "keypoints": ("keypoints",),
    "panoptic": ("bbox", "segm", "panoptic_seg"),
    "ablations": ("bbox", "segm"),
    "kinetics": ("video",),
    "charades": ("multi_label",),
    "converted": ("video",),
}
VIDEO = ("kinetics", "charades", "converted")  # tables of video models
PROJECTS = {  # by their names in the index
    "caffe2": "video-nonlocal-net",
    "slowfast": "PySlowFast",
    "pytorchvideo": "PyTorchVideo",
    "mmaction2": "mmaction2",
}
Columns = dict[str, Callable[[str, dict], str]]  # by heading: a cell from a name and its entry


def main(words: Sequence[str] | None = None) -> None:
    ArgumentParser(description=f"{__doc__}".split(":")[0] + ".").parse_args(words)
    if not PAGE.exists():
        sys.exit(f"page.py: error: no {PAGE}: run this in a clone of nl_detectron")
    PAGE.write_text(render(PAGE.read_text(), parts(shipped())))
    print("wrote", PAGE)


def render(page: str, texts: Iterable[tuple[str, str]]) -> str:
    """Replace each part of a page between ``<!-- begin: NAME -->`` and ``<!-- end: NAME -->``.

    Args:
        page: the text of the page.
        texts: name and new text of each part.

    Raises:
        ValueError: the page lacks the markers of a part.
    """
    for name, text in texts:
        markers = f"<!-- begin: {name} -->", f"<!-- end: {name} -->"
        pattern = re.compile(f"({markers[0]}\n).*?({markers[1]})", re.DOTALL)
        if not pattern.search(page):
            raise ValueError(f"the page lacks {markers[0]} and {markers[1]}, in this order")
        page = pattern.sub(lambda m, text=text: f"{m[1]}\n{text}\n\n{m[2]}", page)
    return page


def parts(index: Index) -> Iterator[tuple[str, str]]:
    """Name and text of each part of MODEL_ZOO.md."""
    yield "state", state(index)
    for table in TABLES:
        lines = [line(name, entry) for name, entry in index.items() if entry["table"] == table]
        yield table, "\n".join([*head(table), *lines])


def state(index: Index) -> str:
    """A sentence on how many models have been trained, apart from those of other projects."""
    index = {name: entry for name, entry in index.items() if "converted" not in entry}
    if trained := sum("trained" in entry for entry in index.values()):
        return f"Trained: {trained} of these {len(index)} configs."
    return (
        f"**None of these {len(index)} configs has been trained at full scale yet**: the last "
        "column has no results yet, and all numbers are the paper's, the released code's or "
        "Detectron2's."
    )


def head(table: str) -> list[str]:
    """The header of a table and the line below it."""
    heads = list(columns(table))
    return [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]


def line(name: str, entry: dict) -> str:
    """The row of a config in its table."""
    cells = [cell(name, entry) for cell in columns(entry["table"]).values()]
    return f"| {' | '.join(cells)} |"


def columns(table: str) -> Columns:
    """The columns of a table, in their order."""
    tasks = TABLES[table]
    labels = [TASKS[task][0] for task in tasks]
    built: Columns = {"Config": lambda name, entry: f"[{Path(name).name}](configs/{name}.yaml)"}
    if table == "converted":
        return built | _converted_columns(labels[0])
    if table in VIDEO:
        return _video_columns(tasks[0])
    if table == "ablations":
        built = {"Table": lambda name, entry: entry["row"], **built}
        built["Paper, Kinetics top-1 (%)"] = _kinetics
    if table in ("instances", "keypoints"):
        for task, label in zip(tasks, labels, strict=True):
            built[f"Paper, {label} / 50 / 75"] = lambda name, entry, task=task: _slashed(
                entry.get("paper", {}).get(task, [])
            )
    if table != "ablations":  # Detectron2 has no such models
        built[f"Detectron2, {' / '.join(labels)}"] = lambda name, entry: _slashed(
            entry["detectron2"][task] for task in tasks if "detectron2" in entry
        )
    built["Start from"] = _start
    built[f"Ours, {' / '.join(labels)}"] = lambda name, entry: format_results(entry, tasks)
    return built


def _video_columns(task: str) -> Columns:
    label = TASKS[task][0]

    def figures(source: str) -> Callable[[str, dict], str]:
        return lambda name, entry: _slashed(entry.get(source, {}).get(task, []))

    return {
        "Table": lambda name, entry: entry["row"],
        "Config": lambda name, entry: f"[{Path(name).name}](configs/{name}.yaml)",
        f"Paper, {label}": figures("paper"),
        f"Released code, {label}": figures("released"),
        f"Ours, {label}": lambda name, entry: format_results(entry, [task]),
    }


def _converted_columns(label: str) -> Columns:
    """Format the published accuracies of other projects' models, with their decimals."""

    def published(name: str, entry: dict) -> str:
        return " / ".join(map(str, entry["converted"]["published"]["video"]))

    def weights(name: str, entry: dict) -> str:
        url = entry["converted"]["checkpoint"]
        return f"[{PROJECTS[entry['converted']['source']]}]({url})"

    return {
        f"Published by others, {label}": published,
        "Weights of": weights,
        "Licence": lambda name, entry: entry["converted"]["licence"],
    }


def format_results(entry: dict, tasks: Iterable[str] = tuple(TASKS)) -> str:
    """Results of an entry's checkpoint in those of ``tasks`` that it has, with a link to it."""
    if "trained" not in entry:
        return "not trained yet"
    metrics = entry["trained"]["metrics"]
    keys = [key for task in tasks for key in TASKS[task][1:]]
    figures = [metrics[key] for key in keys if key in metrics]
    return f"{_slashed(figures)} ([model]({entry['trained']['checkpoint']}))"


def _slashed(figures: Iterable[float | None]) -> str:
    """Join figures with one decimal; None stands for the NaN of a model without detections."""
    return " / ".join(NOTHING if f is None else f"{f:.1f}" for f in figures) or NOTHING


def _kinetics(name: str, entry: dict) -> str:
    return f"{entry['kinetics']} (baseline {shipped()[entry['twin']]['kinetics']})"


def _start(name: str, entry: dict) -> str:
    """A link to the baseline's checkpoint, named by its schedule."""
    if "baseline" not in entry:
        return NOTHING
    return f"[{entry['baseline'].rpartition('_')[2]}]({baseline_url(entry)})"


if __name__ == "__main__":
    main()
