"""The image that the page opens on: one on which something can be seen."""

import time
from collections.abc import Sequence
from pathlib import Path

from ..attention import AttentionRecord, is_flat, share
from ..errors import UsageError
from .models import MAX_RECORDS, Explorer
from .rendering import choose_first_point

LEAST_SCORE = 0.5  # of the detection
LEAST_OUTSIDE = 0.5  # share of the weights
SECONDS = 5.0  # for all images: a large model on a CPU may take that for one


def find_telling_image(explorer: Explorer, images: Sequence[Path]) -> Path | None:
    """The first image on which the first model :func:`looks_elsewhere`, of the few that it sees in
    :data:`SECONDS`; without any, the first image that can be read, or None."""
    readable, end = None, time.monotonic() + SECONDS
    for image in images[:MAX_RECORDS]:  # these records are kept
        try:
            record = explorer.get_records(str(image))[0]
        except UsageError:
            continue
        if looks_elsewhere(record):
            return image
        readable = readable or image
        if time.monotonic() > end:
            break
    return readable


def looks_elsewhere(record: AttentionRecord) -> bool:
    """Whether, in the first block, the object that is found with the highest score looks mostly
    outside its box, and not evenly."""
    found = record.instances
    if not len(found) or float(found.scores[0]) < LEAST_SCORE:
        return False
    look = record.attention(*choose_first_point(record), record.blocks[0])
    if look is None or is_flat(look):
        return False
    return 1 - share(look, found.pred_boxes.tensor[0].tolist()) >= LEAST_OUTSIDE
