"""Accuracy by distance in time, and how far the convs of a model reach in time."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from nl_detectron.engine.video_scores import Scores


def accuracy_by_distance(
    scores: Scores, labels: Mapping[str, int], distances: Mapping[str, int]
) -> list[dict[str, int]]:
    """Count the videos, and those whose class is right, by the distance between their two pictures.

    Args:
        scores: of the evaluation, by the video's id.
        labels: numbers of classes, by the same.
        distances: in pictures, by the same.

    Returns:
        For each distance that occurs, in order, ``distance``, ``videos`` and ``right``.

    Raises:
        ValueError: the three are not of the same videos.
    """
    if not scores.keys() == labels.keys() == distances.keys():
        raise ValueError(
            f"expected scores, classes and distances of the same videos, got {len(scores)}, "
            f"{len(labels)} and {len(distances)} that are not the same; evaluate again"
        )
    right: dict[int, list[bool]] = {}
    for video, distance in distances.items():
        found = int(np.argmax(scores[video].ensemble))
        right.setdefault(distance, []).append(found == labels[video])
    return [
        {"distance": distance, "videos": len(hits), "right": sum(hits)}
        for distance, hits in sorted(right.items())
    ]


def frames_seen(model: nn.Module, clip: Tensor) -> int:
    """Frames that the receptive field of one output position spans, by the model's 3-D convs and
    max pools in the order in which they run.

    A kernel of k frames that are ``step`` input frames apart adds (k - 1) * step; a stride
    multiplies the step. Two frames reach a common position if they are at most one less apart.
    Shortcuts are left out: they are the shorter way. So are non-local blocks, whose convs span one
    frame.

    Args:
        model: it is in evaluation afterwards.
        clip: any input of it, also on the meta device.
    """
    size, step = 1, 1

    def add(layer: nn.Module, *_) -> None:
        nonlocal size, step
        kernel, stride, dilation = map(_in_time, (layer.kernel_size, layer.stride, layer.dilation))
        size += (kernel - 1) * dilation * step
        step *= stride

    hooks = [
        module.register_forward_hook(add)
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv3d | nn.MaxPool3d) and not name.endswith("shortcut")
    ]
    try:
        with torch.no_grad():
            model.eval()(clip)
    finally:
        for hook in hooks:
            hook.remove()
    return size


def _in_time(value: int | tuple[int, ...]) -> int:
    return value if isinstance(value, int) else value[0]
