"""Analyses of a model and its twin as a table and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

from tabulate import tabulate

from .analysis import Analysis, Figures, analyze
from .data import CocoDataset
from .engine import load_config
from .errors import UsageError

HEADERS = ["", "C -> D", "form", "sum", "parameters", "GFLOPs", "activations, MB"]
GPU_HEADER = "on a GPU, MB"


def analyze_config(
    config_file: str,
    opts: Sequence[str],
    data: Sequence[CocoDataset],
    size: Sequence[int] | None,
    devices: Sequence[str],
) -> list[Analysis]:
    """Analyze the model of a config file on each device.

    Args:
        opts, data: as :func:`load_config` takes them.
        size: height and width of the image or clip in pixels; None: as usual for the model.

    Raises:
        UsageError: of :func:`load_config` and, with the file's name, of :func:`analyze`.
    """
    cfg = load_config(config_file, opts, data)
    height, width = size or (None, None)
    try:
        return [analyze(cfg, height, width, device) for device in devices]
    except UsageError as error:
        raise UsageError(f"{config_file}: {error}") from error


def drop_block_overrides(opts: Sequence[str]) -> list[str]:
    """``KEY VALUE`` overrides without those of MODEL.NONLOCAL: what a twin shares."""
    pairs = zip(opts[::2], opts[1::2], strict=True)
    return [w for pair in pairs if not pair[0].startswith("MODEL.NONLOCAL") for w in pair]


def format_table(models: Mapping[str, Sequence[Analysis]]) -> str:
    """A row for each block and each model, and for the difference between two models.

    Args:
        models: one or two, by name, each analyzed on the same devices.
    """
    rows, totals = [], []
    for name, analyses in models.items():
        for blocks in zip(*(a.blocks for a in analyses), strict=True):
            block, figures = blocks[0], [b.figures for b in blocks]
            channels = f"{block.channels[0]} -> {block.channels[1]}"
            rows.append(
                [block.name, channels, block.pairwise, block.impl, *_format_figures(figures)]
            )
        totals.append([a.figures for a in analyses])
        rows.append([name, "", "", "", *_format_figures(totals[-1])])
    if len(totals) == 2:
        more = [ours.minus(twin) for ours, twin in zip(*totals, strict=True)]
        pairs = zip(_list_numbers(more), _list_numbers(totals[1]), strict=True)
        rows.append(["difference", "", "", "", *_format_figures(more, "+")])
        percent = [f"{100 * a / b:+.2f} %" for a, b in pairs]
        rows.append(["difference, percent", "", "", "", *percent])
    on_gpu = max(map(len, models.values())) > 1
    headers = [*HEADERS, GPU_HEADER] if on_gpu else HEADERS
    alignment = ("left",) * 4 + ("right",) * (len(headers) - 4)
    # tabulate would take "+2,099,712" for text and align it to the left
    body = tabulate(rows, headers=headers, colalign=alignment, disable_numparse=True)
    units = "a FLOP is a multiply-add, an MB 10^6 bytes"
    return f"{_describe_inputs(models)}; {units}\n\n{body}"


def _describe_inputs(models: Mapping[str, Sequence[Analysis]]) -> str:
    """What the models are analyzed on, once if it is the same."""
    inputs = {}
    for name, (analysis, *_) in models.items():
        *frames, height, width = analysis.size
        what = f"clip of {frames[0]} frames" if frames else "image"
        inputs[name] = f"one {what} of {height} x {width}"
    if len(set(inputs.values())) == 1:
        return next(iter(inputs.values())).capitalize()
    return "; ".join(f"{name}: {what}" for name, what in inputs.items())


def make_json(models: Mapping[str, Sequence[Analysis]]) -> dict[str, Any]:
    """What :func:`format_table` shows, as a dict for JSON."""
    content = {name: asdict(analyses[0]) for name, analyses in models.items()}
    for name, (_, *on_gpu) in models.items():
        if on_gpu:
            content[name]["on_gpu"] = asdict(on_gpu[0])
    height, width = next(iter(models.values()))[0].size[-2:]
    return {"image": [height, width], "models": content}


def _list_numbers(figures: Sequence[Figures]) -> list[int]:
    """Parameters, FLOPs, and the activations that each device keeps."""
    return [*astuple(figures[0]), *(f.activations for f in figures[1:])]


def _format_figures(figures: Sequence[Figures], sign: str = "") -> list[str]:
    parameters, flops, *activations = _list_numbers(figures)
    kept = [f"{bytes_ / 1e6:{sign},.1f}" for bytes_ in activations]
    return [f"{parameters:{sign},}", f"{flops / 1e9:{sign},.2f}", *kept]
