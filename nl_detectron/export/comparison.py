"""The outputs of an exported file against those of the model it was made from."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from unittest import mock

import torch
from torch import Tensor

from ..errors import UsageError
from .formats import Inference
from .parts import ExportPart

TOLERANCE = 1e-4  # of a difference, over the largest value of its output


def compare_outputs(part: ExportPart, exported: Inference) -> Iterator[str]:
    """Compare on each image of the part; yields a line for each.

    Raises:
        UsageError: outputs that differ from the model's, or no detection to compare.
    """
    values = 0
    for image in part.images:
        with torch.no_grad():
            found = exported(image)
            with nms_as_traced():
                expected = part.module(image)
        size = _describe_input(part, image)
        largest = 0.0
        for name, a, b in zip(part.output_names, expected, found, strict=True):
            if a.shape != b.shape:
                raise UsageError(
                    f"at {size} {name} is {tuple(b.shape)}, but the model's is {tuple(a.shape)}"
                )
            difference = relative_difference(a, b)
            if not difference <= TOLERANCE:  # a NaN is not
                raise UsageError(
                    f"at {size} {name} differs from the model's by {difference:.1e} of its largest "
                    f"value, and {TOLERANCE:.0e} is the most that passes; the file is deleted"
                )
            largest = max(largest, difference)
        values += expected[0].numel()
        yield f"{size}: {_count_detections(part, expected)}largest difference {largest:.1e}"
    if not values:
        raise UsageError(
            "the model finds nothing in these images, so there is nothing to compare; give "
            "--image FILE, one in which it finds objects"
        )


def nms_as_traced() -> AbstractContextManager:
    """Make torchvision's non-maximum suppression work as it does in a traced graph: on all classes
    at once, their boxes moved apart.

    Without a graph it takes more than 1,000 boxes class by class, which settles equal scores, and
    overlaps within rounding of the threshold, in another way.
    """
    return mock.patch("torchvision._is_tracing", return_value=True)


def relative_difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference over the largest absolute value of ``a``."""
    if not a.numel():
        return 0.0
    a, b = a.double(), b.double()
    return ((a - b).abs().max() / a.abs().max().clamp(min=1e-6)).item()


def _describe_input(part: ExportPart, image: Tensor) -> str:
    if part.input_name == "clips":
        return f"{len(image)} {'clip' if len(image) == 1 else 'clips'}"
    return f"{image.shape[-2]} x {image.shape[-1]}"


def _count_detections(part: ExportPart, outputs: Sequence[Tensor]) -> str:
    return f"{len(outputs[0])} detections, " if "scores" in part.output_names else ""
