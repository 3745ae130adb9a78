"""Publishes a trained checkpoint: writes a file, and its entry in an index of the model zoo."""

import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.engine import DefaultPredictor

from ..config import is_video
from ..data.images import read_image
from ..engine import load_config, make_output
from ..engine.block_records import KEY
from ..engine.checkpoint import read_checkpoint
from ..errors import UsageError
from . import index, page
from .run_record import (
    check_weights,
    find_overrides,
    find_record,
    is_shipped,
    select_metrics,
    strip_config,
)

HEADER = "# Made by nl-detectron publish. NL_DETECTRON_ZOO=FILE adds it to the model zoo.\n"


def publish_checkpoint(
    checkpoint: Path, name: str, output: Path, say: Callable[[str], None] = print
) -> Path:
    """Write NAME-HASH.pth and its entry in index.yaml, and its config if the package has none.

    Args:
        checkpoint: a checkpoint in a run's folder, with summary.json or evaluation.json of
            a run beside it.
        name: name of one of the package's configs, or a new name, such as "birds/mask_rcnn_nl".
        output: folder for the files; it is made if it does not exist.
        say: called with lines on what was left out, on a test of the published file, and on how to
            use it.

    Returns:
        The path of the published checkpoint.

    Raises:
        UsageError: the checkpoint cannot be read, has NaN or infinite values, does not fit its
            config, has no recorded results, or fails the test; or the run does not follow the
            package's config of that name.
    """
    content = collect_content(checkpoint, name, output, say)
    buffer = io.BytesIO()  # given a file, torch.save would write its name into it
    torch.save(content, buffer)
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    file = output / f"{Path(name).name}-{sha256[:8]}.pth"
    file.write_bytes(buffer.getvalue())
    try:
        outcome = verify_checkpoint(file)
    except Exception:
        file.unlink()
        raise
    say(f"wrote {file} and ran it once: {outcome}")
    about = {k: v for k, v in content.items() if k not in ("model", "name", "config", KEY)}
    entry: dict[str, Any] = {"trained": {"checkpoint": file.name, "sha256": sha256, **about}}
    if not is_shipped(name):
        file.with_suffix(".yaml").write_text(content["config"])
        entry["config"] = file.with_suffix(".yaml").name
    register_entry(output / "index.yaml", name, entry)
    say(format_summary(output / "index.yaml", name, entry))
    return file


def collect_content(
    checkpoint: Path, name: str, output: Path, say: Callable[[str], None] = print
) -> dict[str, Any]:
    """Collect what the published file contains: plain values and tensors.

    Arguments and errors are those of :func:`publish_checkpoint`.
    """
    content = read_checkpoint(str(checkpoint))
    record = find_record(checkpoint)
    make_output(output)
    config, changed = strip_config(yaml.safe_load(record["config"]))
    say(f"left out of the config, because they are this machine's own: {', '.join(changed)}")
    text = yaml.safe_dump(config)
    cfg = parse_config(text, output)
    iterations = content.get("trainer", {}).get("iteration", cfg.SOLVER.MAX_ITER - 1) + 1
    return {
        "model": check_weights(content["model"], cfg),
        **({KEY: content[KEY]} if KEY in content else {}),
        "name": name,
        "config": text,
        "dataset": {"train": list(cfg.DATASETS.TRAIN), "test": cfg.DATASETS.TEST[0]},
        "metrics": select_metrics(record, cfg),
        "iterations": iterations,
        "overrides": find_overrides(name, cfg, iterations),
        "commit": record.get("commit"),
        "versions": record["versions"],
    }


def parse_config(text: str, folder: Path) -> CfgNode:
    """Load a config from YAML text, through a temporary file in ``folder``."""
    file = folder / ".config.yaml"
    file.write_text(text)
    try:
        return load_config(str(file))
    finally:
        file.unlink()


@torch.no_grad()
def verify_checkpoint(file: Path) -> str:
    """Run a model that is built from a published file alone on an image, or a model of videos on a
    clip of noise; return the outcome.

    Raises:
        UsageError: the model's tensors are not those in the file, or a score is not finite.
    """
    content = read_checkpoint(str(file))
    predictor = load_predictor(parse_config(content["config"], file.parent), file)
    loaded = predictor.model.state_dict()
    if lost := [k for k, v in content["model"].items() if not torch.equal(loaded[k].cpu(), v)]:
        raise UsageError(f"{file} was not loaded correctly: {lost[0]} differs in the model")
    if is_video(predictor.cfg):
        name, what = "a clip of noise", "scores"
        scores = predictor.model.scores(_make_clip(predictor.cfg))[0]
    else:
        name, image = _read_test_image(predictor.cfg)
        scores, what = predictor(image)["instances"].scores, "detections"
    if not torch.isfinite(scores).all():
        raise UsageError(f"{file} does not work on {name}: a score is NaN or infinite")
    return f"{len(scores)} {what} in {name}"


def load_predictor(cfg: CfgNode, checkpoint: Path) -> DefaultPredictor:
    """Build a config's model with the weights of a checkpoint."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(checkpoint)
    return DefaultPredictor(cfg)


def _make_clip(cfg: CfgNode) -> torch.Tensor:
    """Noise (1,3,T,H,W), of the frames and the side that the config's evaluation takes."""
    side = cfg.TEST.VIDEO.CROP_SIZE or cfg.TEST.VIDEO.SHORT_SIDE
    shape = (1, 3, cfg.INPUT.VIDEO.FRAMES, side, side)
    noise = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    return torch.from_numpy(noise).to(cfg.MODEL.DEVICE)


def _read_test_image(cfg: CfgNode) -> tuple[str, np.ndarray]:
    """Name and pixels, BGR (H,W,3), of the test set's first image; noise if it is not available."""
    name = cfg.DATASETS.TEST[0]
    try:
        record = DatasetCatalog.get(name)[0]
        return f"the first image of {name}", read_image(record["file_name"], "BGR")
    except (KeyError, OSError):  # not registered, or its files do not exist
        size = (480, 640, 3)
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        return f"noise ({name} is not available)", noise


def register_entry(file: Path, name: str, entry: dict[str, Any]) -> None:
    """Write an entry into an index; it replaces an earlier one of its name.

    Raises:
        UsageError: the file exists and is not an index.
    """
    known = index.parsed(file) if file.exists() else {}
    file.write_text(HEADER + yaml.safe_dump(known | {name: entry}))


def format_summary(file: Path, name: str, entry: dict[str, Any]) -> str:
    """The entry, its row in MODEL_ZOO.md, and how to use both."""
    shipped = index.shipped().get(name)
    row = page.line(name, shipped | entry) if shipped else f"{name}: {page.format_results(entry)}"
    use = f"from nl_detectron import model_zoo; model_zoo.get('{name}', trained=True)"
    lines = [
        f"\nIn {file}:\n\n{yaml.safe_dump({name: entry})}",
        f"Its row:\n\n{row}\n",
        f'To use it:\n\nexport {index.OWN}={file}\npython -c "{use}"\n',
    ]
    if shipped:
        lines.append(
            "To add it to MODEL_ZOO.md: put 'trained' into the entry of the same name in\n"
            "nl_detectron/model_zoo/index.yaml, with the file's address as checkpoint, and run\n"
            "python -m nl_detectron.model_zoo.page"
        )
    return "\n".join(lines)
