"""Detectron2's checkpointer, which here logs in one line what was loaded and what is missing."""

import logging
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any
from urllib.parse import ParseResult, urlparse

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import nn

from ..errors import UsageError
from ..modeling import find_blocks
from . import checkpoint_files as files
from .atomic_files import write_text
from .block_records import KEY as BLOCKS_KEY
from .block_records import describe_blocks
from .weight_files import check_url, read_checkpoint_file
from .weight_match import WeightMatch, check_match, match_weights

logger = logging.getLogger(__name__)
EXAMPLES = 4  # of tensors of another shape that are logged


class Checkpointer(DetectionCheckpointer):
    """Loads every format that Detectron2 loads, by :func:`read_checkpoint_file`.

    It writes a file whole or not at all, with a checksum that a load verifies. A resumed run falls
    back to an earlier checkpoint if the last one is damaged. NaN and infinite weights are neither
    saved nor loaded.

    A non-local model has the tensors of its baseline under the same names. A baseline's checkpoint
    therefore lacks only the non-local tensors, and heads that the baseline does not have.

    After :meth:`load`, ``path`` is the file, ``fresh`` lists the model's tensors that were not
    loaded and keep their initial values, ``unused`` the file's tensors that the model lacks;
    ``shapes`` has those of all tensors in the file, and ``blocks`` is its description of non-local
    blocks, or None.
    """

    path: str = ""
    fresh: Sequence[str] = ()
    unused: Sequence[str] = ()
    blocks: Mapping[str, Mapping[str, Any]] | None = None
    shapes: Mapping[str, Sequence[int]] = MappingProxyType({})
    _parsed_url_during_load: ParseResult | None

    def save(self, name: str, **kwargs) -> None:
        """Save model and checkpointables as Detectron2 does. ``last_checkpoint`` names the file,
        unless it is the best checkpoint, which may be an old one.

        Raises:
            UsageError: a weight is NaN or infinite.
            WriteError: the file cannot be written.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        path = os.path.join(self.save_dir, f"{name}.pth")
        content: dict[str, Any] = {"model": self.model.state_dict()}
        content[BLOCKS_KEY] = describe_blocks(self.model)
        content |= {key: one.state_dict() for key, one in self.checkpointables.items()} | kwargs
        if tensor := files.find_non_finite(content["model"]):
            last = files.read_last_checkpoint(self.save_dir)
            raise UsageError(
                f"{path} is not saved, because {tensor} is NaN or infinite"
                + (f"; the last checkpoint is {last}" if last else "")
            )
        self.logger.info("Saving checkpoint to %s", path)
        files.write_checkpoint(path, content)
        if name != files.BEST:
            self.tag_last_checkpoint(f"{name}.pth")

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        write_text(os.path.join(self.save_dir, files.LAST), last_filename_basename)

    def has_checkpoint(self) -> bool:
        """Whether the folder has a checkpoint to resume from, damaged or not."""
        return bool(files.list_checkpoints(self.save_dir))

    def get_checkpoint_file(self) -> str:
        """Path of the checkpoint that ``last_checkpoint`` names, or "".

        Raises:
            UsageError: it is outside the folder.
        """
        return files.read_last_checkpoint(self.save_dir)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the newest good checkpoint of the folder. Without ``resume``, or if the folder has
        none, load only the weights of ``path``.

        Every process of a run must call it; the first one chooses the checkpoint for all.

        Raises:
            UsageError: as in :meth:`load`, or all checkpoints of the folder are damaged.
        """
        chosen = None
        if resume and comm.is_main_process():
            found = files.choose_checkpoint(self.save_dir, read_checkpoint, logger.warning)
            chosen = found and found[0]
        if resume:
            chosen = comm.all_gather(chosen)[0]
        return self.load(chosen) if chosen else self.load(path, checkpointables=[])

    def load(self, path: str, *args, **kwargs) -> dict[str, Any]:
        """Load a checkpoint as Detectron2 does.

        Raises:
            UsageError: the file does not exist, cannot be read, does not match its checksum, has
                NaN or infinite weights, or has none of the model's tensors or of its backbone's.
        """
        check_url(path)
        # Detectron2 logs a line for each renamed tensor, which only helps to debug the renaming.
        renaming = logging.getLogger("detectron2.checkpoint.c2_model_loading")
        level, self.path = renaming.level, path
        renaming.setLevel(logging.ERROR)  # and one for each of another shape
        if not path:  # Detectron2 then leaves the model as it is
            self.fresh = list(self.model.state_dict())
        try:
            return super().load(path, *args, **kwargs)
        except AssertionError as error:  # "Checkpoint … not found!"
            raise UsageError(f"checkpoint {path!r} does not exist") from error
        finally:
            renaming.setLevel(level)
            self._parsed_url_during_load = None  # Detectron2 keeps it after a failure

    def _load_file(self, filename: str) -> dict[str, Any]:
        files.verify_checksum(filename)
        url = self._parsed_url_during_load
        loaded = read_checkpoint_file(filename, url.query if url else "")
        model = loaded.get("model")
        if isinstance(model, dict) and isinstance(model.get("state_dict"), dict):
            model = loaded["model"] = model["state_dict"]  # of OpenMMLab, MoCo and others
        if not isinstance(model, dict) or not any(hasattr(v, "shape") for v in model.values()):
            raise UsageError(f"checkpoint {filename!r} holds no model weights")
        if tensor := files.find_non_finite(model):
            raise UsageError(
                f"checkpoint {filename!r} has NaN or infinite values in {tensor}: its training "
                "diverged; use an earlier checkpoint"
            )
        return loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        checkpoint["model"], match = match_weights(self.model, checkpoint, self.path)
        checkpoint.pop("matching_heuristics", None)  # done
        check_match(match, self.path, "MODEL.WEIGHTS")
        self.blocks = checkpoint.get(BLOCKS_KEY)
        self.shapes = {name: tuple(t.shape) for name, t in checkpoint["model"].items()}
        self.fresh, self.unused = list(match.fresh), list(match.unused)
        incompatible = super()._load_model(checkpoint)
        self._log_match(match)
        return incompatible

    def _log_incompatible_keys(self, incompatible: Any) -> None:
        """Nothing: frozen norms fill in what a file lacks, so these keys are not all."""

    def _log_match(self, match: WeightMatch) -> None:
        folded = f" ({len(match.folded)} more are folded into others)" if match.folded else ""
        logger.info(
            "Loaded %d of %d tensors%s from %s. Not in the file: %s. Not in the model: %s.",
            len(match.taken),
            len(match.taken) + len(match.folded) + len(match.fresh),
            folded,
            self.path,
            _summary([k for k in self.fresh if k not in match.wrong], self.model) or "none",
            _summary(self.unused, self.model) or "none",
        )
        if match.inflated:
            logger.info("Inflated %d convs for images to convs over time", len(match.inflated))
        if match.wrong:
            shapes = [f"{k} is {a} in the file, {b} here" for k, (a, b) in match.wrong.items()]
            more = f"; and {len(shapes) - EXAMPLES} more" if len(shapes) > EXAMPLES else ""
            logger.warning(
                "%d tensors are not loaded and start afresh, as they have other shapes: %s%s",
                len(shapes),
                "; ".join(shapes[:EXAMPLES]),
                more,
            )


def locate_checkpoint(path: str) -> str:
    """Return the local path of a checkpoint, after downloading it if ``path`` is a URL.

    Raises:
        UsageError: the checkpoint does not exist or cannot be downloaded.
    """
    check_url(path)
    try:
        local = PathManager.get_local_path(path.split("?")[0])
    except Exception as error:  # path handlers raise their own: HTTP errors, lost connections
        raise UsageError(f"checkpoint {path!r} cannot be downloaded: {error}") from error
    if os.path.isdir(local):
        files_in = sorted(f for f in os.listdir(local) if f.endswith((".pth", ".pkl")))
        hint = f", such as {os.path.join(local, files_in[-1])}" if files_in else ""
        raise UsageError(f"checkpoint {path!r} is a folder: give a file{hint}")
    if not os.path.isfile(local):
        raise UsageError(f"checkpoint {path!r} does not exist")
    return local


def read_checkpoint(path: str) -> dict[str, Any]:
    """Read everything in a checkpoint: its tensors under "model", and other entries by name.

    Raises:
        UsageError: as in :func:`locate_checkpoint` and :meth:`Checkpointer.load`.
    """
    local = locate_checkpoint(path)
    checkpointer = Checkpointer(nn.Identity())
    checkpointer._parsed_url_during_load = urlparse(path)  # load() sets it for _load_file()
    return checkpointer._load_file(local)


def fresh_outside_blocks(checkpointer: Checkpointer) -> list[str]:
    """Tensors that the last load did not find, except those of non-local blocks (identities)."""
    blocks = tuple(f"{name}." for name in find_blocks(checkpointer.model))
    return [name for name in checkpointer.fresh if not name.startswith(blocks)]


def _summary(names: Sequence[str], model: nn.Module) -> str:
    """Count tensors by part of the model: a block, or the first two names of any other module."""

    def part(name: str) -> str:
        block = re.match(r".*\.nonlocal\d+(?=\.)", name)
        return block[0] if block else ".".join(name.split(".")[:-1][:2]) or name

    return ", ".join(f"{part} ({n})" for part, n in Counter(map(part, names)).items())
