"""Video models that other projects published: fetched, converted and kept in the cache."""

import logging
import os
from functools import reduce
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from ..convert import convert_video, read_tensors
from ..engine.checkpoint_files import write_checkpoint
from ..errors import UsageError
from .files import fetch_verified
from .index import OWN, UNKNOWN

logger = logging.getLogger(__name__)
FORMAT = 1  # of the converted files: a change here converts them again
RECORD = "converted_from"  # what a converted file says about itself


def fetch_converted(name: str, entry: dict[str, Any], cfg: CfgNode) -> str:
    """Local path of another project's video model with this package's names.

    The file is read without running any code in it, whole or not at all, and what its tensors show
    must agree with the config.

    Args:
        name: of the config.
        entry: ``converted`` of the index's entry: ``checkpoint``, ``source``, ``sha256`` and
            ``licence``.
        cfg: the config.

    Raises:
        UsageError: as in :func:`fetch_verified`, :func:`read_tensors` and :func:`convert_video`, or
            the model is not the config's.
    """
    url, expected = entry["checkpoint"], entry["sha256"]
    path = _cache() / f"{name.replace('/', '-')}.pth"
    if _is_from(path, url, expected):
        return str(path)
    licence = entry.get("licence", "its project's own")
    logger.info("Fetching %s, by the authors of %s; licence: %s", url, entry["source"], licence)
    file, found = fetch_verified(url, expected, name)
    if expected == UNKNOWN:
        logger.warning(
            "The authors of %s do not state its SHA-256, so it cannot be checked. This file's is "
            "%s. To take no other one from now on, name an index of your own by %s, with: "
            "{%s: {converted: {sha256: %s}}}",
            *(url, found, OWN, name, found),
        )
    converted = convert_config(read_tensors(file), entry["source"], cfg, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    record = {"format": FORMAT, "url": url, "sha256": found, "licence": licence}
    write_checkpoint(str(path), {"model": converted, RECORD: record})
    logger.info("Converted it to %s", path)
    return str(path)


def convert_config(
    tensors: dict[str, torch.Tensor], source: str, cfg: CfgNode, name: str
) -> dict[str, torch.Tensor]:
    """Convert a whole video model that must be that of a config.

    Raises:
        UsageError: as in :func:`convert_video`, or its config is another one.
    """
    clip = (cfg.INPUT.VIDEO.FRAMES, cfg.INPUT.VIDEO.RATE)
    form = cfg.MODEL.NONLOCAL.PAIRWISE
    given = {}
    if form in ("embedded_gaussian", "dot_product") and cfg.MODEL.NONLOCAL.BACKBONE.AFTER:
        given["pairwise"] = form  # their tensors are the same
    try:
        found = convert_video(tensors, source, clip, strides=cfg.MODEL.VIDEO.STRIDES, **given)
    except UsageError as error:
        raise UsageError(f"this is no checkpoint of {name}: {error}") from error
    for key, value in _flat(found.config):
        if key == "MODEL.NONLOCAL.USE_SCALE" and form != "embedded_gaussian":
            continue  # the other pairwise functions have no scale
        own = _get(cfg, key)
        if (list(own) if isinstance(own, tuple) else own) != value:
            raise UsageError(
                f"this is no checkpoint of {name}: {key} would be {value}, but the config has {own}"
            )
    return found.model


def _cache() -> Path:
    root = os.environ.get("NL_DETECTRON_CACHE") or Path.home() / ".cache" / "nl_detectron"
    return Path(root).expanduser() / "converted"


def _is_from(path: Path, url: str, expected: str) -> bool:
    """Whether a converted file is there, from this URL and with the SHA-256 that is expected."""
    try:
        record = torch.load(path, map_location="cpu", mmap=True, weights_only=True)[RECORD]
        same = (record["format"], record["url"]) == (FORMAT, url)
        return same and (expected == UNKNOWN or record["sha256"].startswith(expected))
    except Exception:  # none, or damaged: zip, pickle and torch each raise their own
        return False


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found = []
    for key, value in config.items():
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found


def _get(cfg: CfgNode, key: str) -> Any:
    return reduce(lambda node, part: node[part], key.split("."), cfg)
