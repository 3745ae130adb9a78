"""Detectron2's checkpointer, saying in one line what was loaded and what starts fresh."""

import hashlib
import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from typing import IO, Any, cast
from urllib.parse import ParseResult, urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from ..errors import UsageError
from ..modeling import find_blocks

logger = logging.getLogger(__name__)


class Checkpointer(DetectionCheckpointer):
    """Reads what Detectron2 reads: zoo ``.pkl`` in its own and Caffe2's names, and ``.pth``.

    Every tensor of a baseline keeps its name in a non-local model, so a baseline's checkpoint
    leaves just the non-local tensors (and heads it never had) fresh.

    After :meth:`load`, ``path`` is the file, ``fresh`` lists the model's tensors that it did not
    give, and ``unused`` its tensors that the model lacks.
    """

    path: str = ""
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()
    _parsed_url_during_load: ParseResult | None

    def load(self, path: str, *args, **kwargs) -> dict[str, Any]:
        """As Detectron2's.

        Raises:
            UsageError: no such file, or a damaged one.
        """
        # Its table of renamed tensors, one line a tensor, is for whoever debugs the renaming.
        renaming = logging.getLogger("detectron2.checkpoint.c2_model_loading")
        level, self.path = renaming.level, path
        renaming.setLevel(logging.WARNING)
        if not path:  # Detectron2 then leaves the model as it is
            self.fresh = list(self.model.state_dict())
        try:
            return super().load(path, *args, **kwargs)
        except AssertionError as error:  # "Checkpoint … not found!"
            raise UsageError(f"checkpoint {path!r} does not exist") from error
        finally:
            renaming.setLevel(level)
            self._parsed_url_during_load = None  # Detectron2 forgets it after a failure

    def _load_file(self, filename: str) -> dict[str, Any]:
        try:
            loaded = super()._load_file(filename)
        except Exception as error:  # zip, pickle and torch each raise their own
            reason = str(error).strip().split("\n")[0][:200]
            raise UsageError(
                f"checkpoint {filename!r} cannot be read ({type(error).__name__}: {reason}); it is "
                "damaged or of another format: fetch or save it again"
            ) from error
        model = loaded.get("model")
        if not isinstance(model, dict) or not any(hasattr(v, "shape") for v in model.values()):
            raise UsageError(f"checkpoint {filename!r} holds no model weights")
        return loaded

    def _log_incompatible_keys(self, incompatible) -> None:
        wrong = {name: shapes for name, *shapes in incompatible.incorrect_shapes}
        self.fresh = list(incompatible.missing_keys)  # with those of a wrong shape
        self.unused = list(incompatible.unexpected_keys)
        total = len(self.model.state_dict())
        logger.info(
            "Loaded %d of %d tensors from %s. Fresh: %s. Not used of the file: %s.",
            total - len(self.fresh),
            total,
            self.path,
            _summary([k for k in self.fresh if k not in wrong], self.model) or "none",
            _summary(self.unused, self.model) or "none",
        )
        for name, (in_file, in_model) in wrong.items():
            logger.warning(
                "%s starts fresh: it is %s in the file, %s here", name, in_file, in_model
            )


def locate_checkpoint(path: str) -> str:
    """The local file of a checkpoint, which is fetched if need be.

    Raises:
        UsageError: it is not there, or cannot be fetched.
    """
    try:
        local = PathManager.get_local_path(path.split("?")[0])
    except Exception as error:  # a handler's own: HTTP, a lost connection
        raise UsageError(f"checkpoint {path!r} cannot be fetched: {error}") from error
    if not os.path.isfile(local):
        raise UsageError(f"checkpoint {path!r} does not exist")
    return local


def read_checkpoint(path: str) -> dict[str, Any]:
    """All that a checkpoint holds: its tensors under "model", and what was saved with them.

    Raises:
        UsageError: of :func:`locate_checkpoint`, or a damaged file.
    """
    local = locate_checkpoint(path)
    checkpointer = Checkpointer(nn.Identity())
    checkpointer._parsed_url_during_load = urlparse(path)  # load() sets it for _load_file()
    return checkpointer._load_file(local)


def digest(path: str) -> str:
    """The SHA-256 of a checkpoint's file, in hexadecimal: which weights a result is of."""
    found = hashlib.sha256()
    with cast(IO[bytes], PathManager.open(path.split("?")[0], "rb")) as file:
        while chunk := file.read(2**20):
            found.update(chunk)
    return found.hexdigest()


def fresh_outside_blocks(checkpointer: Checkpointer) -> list[str]:
    """Tensors that the last load left fresh, those of non-local blocks (identities) apart."""
    blocks = tuple(f"{name}." for name in find_blocks(checkpointer.model))
    return [name for name in checkpointer.fresh if not name.startswith(blocks)]


def _summary(names: list[str], model: nn.Module) -> str:
    """Tensor names counted by part: a non-local block, or a head or FPN by its first two names."""

    def part(name: str) -> str:
        block = re.match(r".*\.nonlocal\d+(?=\.)", name)
        return block[0] if block else ".".join(name.split(".")[:-1][:2]) or name

    return ", ".join(f"{part} ({n})" for part, n in Counter(map(part, names)).items())
