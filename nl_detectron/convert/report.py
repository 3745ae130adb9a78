"""What was taken over from a checkpoint, as a table, and the config that computes the same."""

import re
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from tabulate import tabulate

from .model import Converted
from .sources import SOURCES, Source
from .video_sources import VIDEO_SOURCES


def format_table(found: Converted) -> str:
    """A row for each block, the ResNet, and each reason to leave tensors."""
    rows = []
    for theirs, ours in found.blocks.items():
        tensors = {k: v for k, v in found.model.items() if k.startswith(f"{ours}.")}
        inner, channels = tensors[f"{ours}.g.weight"].shape[:2]
        rows.append([theirs, f"{ours}, {channels} -> {inner} channels", len(tensors)])
    if found.resnet:
        ours = {name.split(".")[0] for name in found.resnet.values()}
        what = "the ResNet and the classifier" if "linear" in ours else "the ResNet"
        rows.append([_first_words(found.resnet), what, len(found.resnet)])
    for reason in dict.fromkeys(found.left.values()):
        left = [name for name, why in found.left.items() if why == reason]
        rows.append([_first_words(left), f"left: {reason}", len(left)])
    return tabulate(rows, ["there", "here", "tensors"], maxcolwidths=[40, 70, None])


def _first_words(names: Iterable[str]) -> str:
    return ", ".join(Counter(re.split(r"[._]", name)[0] for name in names))


def format_config(found: Converted, weights: Path, source: str, given: Mapping[str, Any]) -> str:
    """The words of a config, as YAML, and in comments what no checkpoint shows.

    Args:
        found: what was taken over.
        weights: the file of its tensors, which becomes MODEL.WEIGHTS.
        source: a key of ``SOURCES``.
        given: the arguments of :func:`convert_block` that the user gave.
    """
    unseen = []
    if found.blocks:
        unseen.append(
            "No checkpoint shows all that its blocks compute. Taken as given: "
            f"{_options(given) or 'nothing'}."
        )
    unseen.append("Assumed: an eps of 1e-5 in every norm.")
    if found.resnet:
        unseen.append(_describe_unseen(SOURCES[source]))
    return f"# to put into a config\n{_words(found, weights)}{_comment(' '.join(unseen))}"


def format_video_config(
    found: Converted, weights: Path, source: str, given: Mapping[str, Any]
) -> str:
    """The config of a whole video model, as YAML, and in comments what no checkpoint shows.

    Args:
        found, weights, given: as in :func:`format_config`.
        source: a key of ``VIDEO_SOURCES``.
    """
    unseen = (
        "No checkpoint shows its strides, pools, pixel values, the eps of norms (1e-5) and all "
        f"that its blocks compute. They are {source}'s own, by its "
        f"{VIDEO_SOURCES[source].told_by}, and as given: {_options(given) or 'nothing'}. The "
        "number of a class is its place in the list that the model was trained with; that of "
        "Kinetics is in alphabetical order."
    )
    return _words(found, weights) + _comment(unseen)


def _words(found: Converted, weights: Path) -> str:
    words = {**found.config, "MODEL": {"WEIGHTS": str(weights), **found.config["MODEL"]}}
    return yaml.safe_dump(words, sort_keys=False)


def _options(given: Mapping[str, Any]) -> str:
    """Arguments as options of the command line."""
    joined = {"pool": ",", "video": "x"}
    return " ".join(
        f"--{fact} {joined[fact].join(map(str, value)) if fact in joined else value}"
        for fact, value in given.items()
    )


def _comment(text: str) -> str:
    return textwrap.fill(
        text, 79, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
    )


def _describe_unseen(source: Source) -> str:
    """What the tensors of a source's ResNet do not show."""
    if source.resnet_config:
        return (
            "PIXEL_MEAN and PIXEL_STD are those of the source's usual ImageNet weights. Told only "
            f"by its {source.resnet_told_by}."
        )
    return (
        "The tensors do not tell MODEL.RESNETS.STRIDE_IN_1X1 and RES5_DILATION, MODEL.PIXEL_MEAN, "
        "MODEL.PIXEL_STD and INPUT.FORMAT. Set them as the ResNet was trained, by its "
        f"{source.resnet_told_by}."
    )
