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


def format_table(found: Converted) -> str:
    """A row for each block, the ResNet, and each reason to leave tensors."""
    rows = []
    for theirs, ours in found.blocks.items():
        tensors = {k: v for k, v in found.model.items() if k.startswith(f"{ours}.")}
        inner, channels = tensors[f"{ours}.g.weight"].shape[:2]
        rows.append([theirs, f"{ours}, {channels} -> {inner} channels", len(tensors)])
    if found.resnet:
        rows.append([_first_words(found.resnet), "the ResNet", len(found.resnet)])
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
    words = {**found.config, "MODEL": {"WEIGHTS": str(weights), **found.config["MODEL"]}}
    text = "# to put into a config\n" + yaml.safe_dump(words, sort_keys=False)
    unseen = []
    if found.blocks:
        facts = (
            f"--{fact} {','.join(map(str, value)) if fact == 'pool' else value}"
            for fact, value in given.items()
        )
        unseen.append(
            "No checkpoint shows all that its blocks compute. Taken as given: "
            f"{' '.join(facts) or 'nothing'}."
        )
    unseen.append("Assumed: an eps of 1e-5 in every norm.")
    if found.resnet:
        unseen.append(_describe_unseen(SOURCES[source]))
    return text + textwrap.fill(
        " ".join(unseen), 79, initial_indent="# ", subsequent_indent="# ", break_on_hyphens=False
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
