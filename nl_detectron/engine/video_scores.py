"""Scores of videos on disk, so that a stopped evaluation goes on.

Each process appends to a file of its own, ``scores-0.jsonl`` and so on: first the fingerprint of
what the scores depend on, then a line for each video with its id and its scores, float32 in base64.
"""

import base64
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from .atomic_files import write_text

logger = logging.getLogger(__name__)


class VideoScores(NamedTuple):
    """The scores (K,) of a video: of all views together, and of the middle view alone."""

    ensemble: np.ndarray
    one_view: np.ndarray


Scores = dict[str, VideoScores]  # by the video's id


class ScoreFiles:
    """The files of one evaluation.

    Args:
        folder: of the files of all processes; it is made.
        fingerprint: of :func:`fingerprint`. Files with another one are deleted.
        rank: of this process. That of rank 0 must come first.
    """

    def __init__(self, folder: Path, fingerprint: str, rank: int):
        self.folder, self.fingerprint = folder, fingerprint
        self.file, self.rank = folder / f"scores-{rank}.jsonl", rank

    def start(self) -> Scores:
        """Begin this process's file; returns the scores of an evaluation that was stopped, which
        rank 0 takes over into its file."""
        self.folder.mkdir(parents=True, exist_ok=True)
        known: Scores = {}
        if self.rank == 0:
            old = sorted(self.folder.glob("scores-*.jsonl"))
            for file in old:
                known |= self._read(file)
            self._begin(known)
            for file in old:
                if file != self.file:
                    file.unlink()
        else:
            self._begin({})
        return known

    def append(self, video_id: str, scores: VideoScores) -> None:
        with self.file.open("a", encoding="utf-8") as file:
            file.write(_as_line(video_id, scores))

    def _begin(self, known: Mapping[str, VideoScores]) -> None:
        head = json.dumps({"fingerprint": self.fingerprint}) + "\n"
        lines = (_as_line(name, scores) for name, scores in known.items())
        write_text(str(self.file), head + "".join(lines))

    def _read(self, file: Path) -> Scores:
        """The scores of a file, if they are of this evaluation."""
        found = _fingerprint_of(file)
        if found is None:
            logger.warning("%s is no file of scores: deleted", file)
        return dict(_read_lines(file)) if found == self.fingerprint else {}


def read_scores(folder: Path) -> Scores:
    """The scores that the last evaluation has left in ``OUTPUT_DIR/inference/NAME``.

    Raises:
        ValueError: there are none, or they are of several evaluations.
    """
    files = sorted(folder.glob("scores-*.jsonl"))
    if not files:
        raise ValueError(
            f"expected scores of an evaluation in {folder}, found none; evaluate first"
        )
    heads = {_fingerprint_of(file) for file in files}
    if len(heads) > 1 or None in heads:
        raise ValueError(
            f"expected the scores of one evaluation in {folder}, found files of {len(heads)}, or "
            "damaged ones; evaluate again"
        )
    return {name: scores for file in files for name, scores in _read_lines(file)}


def _fingerprint_of(file: Path) -> str | None:
    """The fingerprint in the first line of a file; None if there is none."""
    with file.open("rb") as lines:
        try:
            return json.loads(lines.readline())["fingerprint"]
        except (ValueError, KeyError, TypeError):
            return None


def _read_lines(file: Path) -> Iterator[tuple[str, VideoScores]]:
    for line in filter(None, file.read_bytes().split(b"\n")[1:]):
        try:
            entry = json.loads(line)
            yield (
                entry["video_id"],
                VideoScores(*(_decode(entry[k]) for k in VideoScores._fields)),
            )
        except (ValueError, KeyError, TypeError):  # the last line of a killed process
            logger.warning("%s: a line is incomplete, so its video is evaluated again", file)


def fingerprint(model: nn.Module, settings: Any, records: Iterable[Mapping]) -> str:
    """SHA-256 of all that scores depend on: each tensor of the model, the settings as text, and the
    videos with their files."""
    digest = sha256(str(settings).encode())
    for record in records:
        digest.update(f"{record['video_id']}\n{record['file_name']}\n".encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        values = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(values.view(torch.uint8).numpy().data if values.numel() else b"")
    return digest.hexdigest()


def _as_line(video_id: str, scores: VideoScores) -> str:
    arrays = {name: _encode(array) for name, array in scores._asdict().items()}
    return json.dumps({"video_id": video_id, **arrays}) + "\n"


def _encode(array: np.ndarray) -> str:
    return base64.b64encode(array.astype("<f4").tobytes()).decode()


def _decode(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<f4")
