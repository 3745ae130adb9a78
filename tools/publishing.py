"""What may be published of a run: its own results, a config without its machine, whole weights."""

import json
import os
import shlex
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from training_run import as_values, flat

from nl_detectron.engine import build_on_meta, load_config
from nl_detectron.engine.checkpoint import digest, read_checkpoint
from nl_detectron.errors import UsageError
from nl_detectron.model_zoo.zoo import CONFIGS

# where two runs of the same model may differ
OF_THE_RUN = ("OUTPUT_DIR", "SEED", "VERSION", "CUDNN_BENCHMARK", "SOLVER.", "DATALOADER.")
OF_THE_RUN += ("VISUALIZE.", "TEST.EVAL_PERIOD", "MODEL.WEIGHTS", "MODEL.NONLOCAL.CHECKPOINT")


def recorded(checkpoint: Path) -> dict:
    """What train_net.py wrote of evaluating this very file: its results, config and versions.

    Raises:
        UsageError: it wrote nothing; with the command that does.
    """
    sha256 = digest(str(checkpoint))
    for name in ("evaluation.json", "summary.json"):  # one evaluated anew was meant to be
        record = _read(checkpoint.with_name(name))
        if record.get("results") and record.get("checkpoint") == sha256:
            return record
    folder = checkpoint.parent
    words = ["train_net.py", "--config-file", folder / "config.yaml", "--eval-only"]
    words += ["MODEL.WEIGHTS", checkpoint, "OUTPUT_DIR", folder]
    raise UsageError(
        f"neither summary.json nor evaluation.json in {folder} has results of {checkpoint.name} as "
        f"it is now; evaluate it: {shlex.join(map(str, ['python', *words]))}"
    )


def _read(file: Path) -> dict:
    try:
        return json.loads(file.read_text())
    except (FileNotFoundError, json.JSONDecodeError):  # the latter: stopped while writing it
        return {}


def metrics(record: dict, cfg: CfgNode) -> dict[str, float | None]:
    """Results on the first test set, in percent; those of single classes are left out."""
    prefix = f"{cfg.DATASETS.TEST[0]}/" if len(cfg.DATASETS.TEST) > 1 else ""
    results = {k: v for k, v in record["results"].items() if k.startswith(prefix)}
    return {k.removeprefix(prefix): v for k, v in results.items() if "-" not in k.split("/")[-1]}


def cleaned(config: dict) -> tuple[dict, list[str]]:
    """The config without its machine's device and folders, and the keys that this changed."""
    clean = _without_folders(config)
    del clean["OUTPUT_DIR"], clean["MODEL"]["DEVICE"]
    weights = clean["MODEL"]["WEIGHTS"]
    clean["MODEL"]["WEIGHTS"] = weights if "://" in weights else os.path.basename(weights)
    after = flat(clean)
    return clean, [key for key, value in flat(config).items() if after.get(key) != value]


def _without_folders(value: object) -> object:
    """A copy where each absolute path is the name of its file alone."""
    if isinstance(value, dict):
        return {key: _without_folders(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_folders(inner) for inner in value]
    if isinstance(value, str) and os.path.isabs(os.path.expanduser(value)):
        return os.path.basename(value)
    return value


def from_text(config: str, folder: Path) -> CfgNode:
    """The config that YAML text describes; ``folder`` takes it for a moment."""
    file = folder / ".config.yaml"
    file.write_text(config)
    try:
        return load_config(str(file))
    finally:
        file.unlink()


def shipped(name: str) -> bool:
    """Whether the package has a config of this name."""
    return (CONFIGS / f"{name}.yaml").is_file()


def overrides(name: str, cfg: CfgNode, iterations: int) -> dict[str, object]:
    """How a run differed from the package's config of its name; of another name, nothing.

    Raises:
        UsageError: it is another model, or one of other data, or of more or less of it.
    """
    if not shipped(name):
        return {}
    ours = load_config(str(CONFIGS / f"{name}.yaml"))
    there, here = as_values(ours), as_values(cfg)
    shared = sorted(there.keys() & here.keys())  # another version may have other keys
    differ = {key: here[key] for key in shared if there[key] != here[key]}
    wrong = [f"{k} {v}, not {there[k]}" for k, v in differ.items() if not k.startswith(OF_THE_RUN)]
    seen, meant = cfg.SOLVER.IMS_PER_BATCH * iterations, ours.SOLVER.IMS_PER_BATCH
    meant *= ours.SOLVER.MAX_ITER
    if seen != meant:
        wrong.append(f"trained on {seen:,} images (iterations times batch), not {meant:,}")
    if wrong:
        told = "; ".join(wrong)
        raise UsageError(f"this run is none of {name}: {told}. Give it a --name of your own")
    return differ


def checked(model: dict, cfg: CfgNode) -> dict[str, torch.Tensor]:
    """The weights by themselves, on the CPU.

    Raises:
        UsageError: they are not those of the config's model, or not all finite.
    """
    wanted = {name: t.shape for name, t in build_on_meta(cfg).state_dict().items()}
    weights = {name: torch.as_tensor(t).cpu().clone() for name, t in model.items()}
    there = {name: t.shape for name, t in weights.items()}
    if other := sorted(n for n in wanted.keys() | there.keys() if wanted.get(n) != there.get(n)):
        first = other[0]
        raise UsageError(
            f"the checkpoint is none of its config's model: {len(other)} tensors differ, such as "
            f"{first}, {_shape(there, first)} in the file and {_shape(wanted, first)} in the model"
        )
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise UsageError(f"the checkpoint is broken: {name} has NaN or infinite values")
    return weights


def _shape(shapes: dict[str, torch.Size], name: str) -> str:
    return str(tuple(shapes[name])) if name in shapes else "missing"


def verify_checkpoint(file: Path) -> str:
    """Run a published file on an image, in a model made of nothing else; tells what it found.

    Raises:
        UsageError: the model does not hold what is in the file, or finds nonsense.
    """
    held = read_checkpoint(str(file))
    cfg = from_text(held["config"], file.parent).clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = str(file)
    predictor = DefaultPredictor(cfg)
    loaded = predictor.model.state_dict()
    if lost := [k for k, v in held["model"].items() if not torch.equal(loaded[k].cpu(), v)]:
        raise UsageError(f"{file} did not load whole: {lost[0]} is another in the model")
    name, image = _image(cfg)
    found = predictor(image)["instances"]
    if not torch.isfinite(found.scores).all():
        raise UsageError(f"{file} finds nonsense in {name}: a score is NaN or infinite")
    return f"{len(found)} detections in {name}"


def _image(cfg: CfgNode) -> tuple[str, np.ndarray]:
    """The test set's first image, BGR (H,W,3); noise where the data set is not here."""
    name = cfg.DATASETS.TEST[0]
    try:
        record = DatasetCatalog.get(name)[0]
        return f"the first image of {name}", read_image(record["file_name"], "BGR")
    except (KeyError, OSError):  # not registered, or its files are elsewhere
        size = (480, 640, 3)
        noise = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
        return f"noise ({name} is not here)", noise
