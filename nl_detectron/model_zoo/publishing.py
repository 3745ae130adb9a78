"""Publishing a trained checkpoint: a file of its own, and an entry in an index of the model zoo."""

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
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor

from ..engine import load_config, make_output
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

HEADER = "# By tools/publish_checkpoint.py; NL_DETECTRON_ZOO names it to nl_detectron.model_zoo\n"


def publish_checkpoint(
    checkpoint: Path, name: str, output: Path, say: Callable[[str], None] = print
) -> Path:
    """Write NAME-HASH.pth and its entry in index.yaml, and its config if the package has none.

    Args:
        checkpoint: of a run, beside the summary.json or evaluation.json of train_net.py.
        name: of a config of the package, or another, such as "birds/mask_rcnn_nl".
        output: folder of what is published; it is made if need be.
        say: takes what was left out, what the checkpoint found when it was run, and how to use it.

    Returns:
        The path of the file.

    Raises:
        UsageError: a checkpoint that cannot be read, that is broken or not of its config's model,
            whose results were not recorded, or that does not run; or a run that is not of the
            package's config of that name.
    """
    content = collect_content(checkpoint, name, output, say)
    buffer = io.BytesIO()  # in a file, torch would write the file's name too
    torch.save(content, buffer)
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    file = output / f"{Path(name).name}-{sha256[:8]}.pth"
    file.write_bytes(buffer.getvalue())
    try:
        found = verify_checkpoint(file)
    except Exception:
        file.unlink()
        raise
    say(f"wrote {file} and ran it once: {found}")
    about = {k: v for k, v in content.items() if k not in ("model", "name", "config")}
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
    """All that the published file holds: plain values and tensors.

    Args and errors are those of :func:`publish_checkpoint`.
    """
    held = read_checkpoint(str(checkpoint))
    record = find_record(checkpoint)
    make_output(output)
    config, changed = strip_config(yaml.safe_load(record["config"]))
    say(f"left out of the config, as this machine's own: {', '.join(changed)}")
    text = yaml.safe_dump(config)
    cfg = parse_config(text, output)
    iterations = held.get("trainer", {}).get("iteration", cfg.SOLVER.MAX_ITER - 1) + 1
    return {
        "model": check_weights(held["model"], cfg),
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
    """The config that YAML text describes; it is written into ``folder`` to be read."""
    file = folder / ".config.yaml"
    file.write_text(text)
    try:
        return load_config(str(file))
    finally:
        file.unlink()


def verify_checkpoint(file: Path) -> str:
    """Run a published file on an image, in a model made of nothing else; returns what it found.

    Raises:
        UsageError: the model does not hold what is in the file, or its scores are not finite.
    """
    held = read_checkpoint(str(file))
    predictor = load_predictor(parse_config(held["config"], file.parent), file)
    loaded = predictor.model.state_dict()
    if lost := [k for k, v in held["model"].items() if not torch.equal(loaded[k].cpu(), v)]:
        raise UsageError(f"{file} did not load whole: {lost[0]} is another in the model")
    name, image = _read_test_image(predictor.cfg)
    found = predictor(image)["instances"]
    if not torch.isfinite(found.scores).all():
        raise UsageError(f"{file} finds nonsense in {name}: a score is NaN or infinite")
    return f"{len(found)} detections in {name}"


def load_predictor(cfg: CfgNode, checkpoint: Path) -> DefaultPredictor:
    """The config's model with the weights of a checkpoint."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(checkpoint)
    return DefaultPredictor(cfg)


def _read_test_image(cfg: CfgNode) -> tuple[str, np.ndarray]:
    """The test set's first image, BGR (H,W,3); noise where the data set is not here."""
    name = cfg.DATASETS.TEST[0]
    try:
        record = DatasetCatalog.get(name)[0]
        return f"the first image of {name}", read_image(record["file_name"], "BGR")
    except (KeyError, OSError):  # not registered, or its files are elsewhere
        size = (480, 640, 3)
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        return f"noise ({name} is not here)", noise


def register_entry(file: Path, name: str, entry: dict[str, Any]) -> None:
    """Put an entry into an index, in the place of an earlier one of its name.

    Raises:
        UsageError: a file that is no index.
    """
    known = index.parsed(file) if file.exists() else {}
    file.write_text(HEADER + yaml.safe_dump(known | {name: entry}))


def format_summary(file: Path, name: str, entry: dict[str, Any]) -> str:
    """The entry, its row of MODEL_ZOO.md, and what to do with them."""
    shipped = index.shipped().get(name)
    row = page.line(name, shipped | entry) if shipped else f"{name}: {page.ours(entry)}"
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
