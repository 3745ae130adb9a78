"""Exporting a trained model: load it, write the file, read it again and compare the outputs."""

import importlib.util
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from nl_detectron_cli.names import install_command

from ..config import is_video
from ..engine import build_on_meta, load_config, load_model, make_output
from ..errors import UsageError
from ..modeling import VideoClassifier
from .clips import clips_part
from .comparison import compare_outputs
from .formats import FORMATS, ExportFormat
from .parts import ExportPart, backbone_part, detector_part


def export_model(
    config_file: str,
    format_name: str,
    output: Path,
    opts: Sequence[str] = (),
    image_file: str | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Export a trained model and check the file against it, at three image sizes or on three
    batches of clips.

    Args:
        config_file: a YAML config.
        format_name: a key of ``FORMATS``.
        output: folder of the file; it is made if need be.
        opts: KEY VALUE overrides; MODEL.WEIGHTS is a trained checkpoint.
        image_file: what the export is checked on; noise by default, in which a detector may find
            nothing.
        say: takes a line on the file and one on each comparison.

    Returns:
        The path of the file.

    Raises:
        UsageError: a package, config, checkpoint or image that is missing or cannot be used, a
            model that the format cannot hold, or a file with other outputs, which is deleted.
    """
    form = FORMATS[format_name]
    check_packages(format_name)
    cfg = load_config(config_file, [*opts, *form.opts])
    whole = form.whole_detector or is_video(cfg)
    model = load_trained_model(cfg, "" if whole else "backbone.")
    part = make_part(model, cfg, form, image_file)
    make_output(output)
    path = output / form.file
    if is_video(cfg):
        path = path.with_stem("classifier")
    with warnings.catch_warnings():
        # documented, though torch.jit does not re-export it by name
        tracer_warning = torch.jit.TracerWarning  # pyright: ignore[reportPrivateImportUsage]
        warnings.simplefilter("ignore", tracer_warning)  # Detectron2 has many, all meant
        warnings.filterwarnings("ignore", ".torch.jit", FutureWarning)  # deprecated: docs/ say so
        try:
            with torch.no_grad():
                form.write(part, path)
        except Exception as error:  # each exporter raises a family of its own
            reason = " ".join(str(error).split())[:300]
            raise UsageError(
                f"this model cannot be exported as {format_name}: {type(error).__name__}: {reason}"
            ) from error
        say(f"{path}: {describe_part(part, cfg)}")
        try:
            for line in compare_outputs(part, form.read(path)):
                say(f"  {line}")
        except UsageError:
            path.unlink()
            raise
    return path


def make_part(
    model: nn.Module, cfg: CfgNode, form: ExportFormat, image_file: str | None
) -> ExportPart:
    """What of a model a format holds, with inputs to check it on.

    Raises:
        UsageError: of the part.
    """
    if isinstance(model, VideoClassifier):
        return clips_part(model, cfg, image_file)
    make = detector_part if form.whole_detector else backbone_part
    return make(model, cfg, image_file)


def check_packages(format_name: str) -> None:
    """Raises UsageError if a package that the format needs is not installed."""
    packages = FORMATS[format_name].packages
    lacking = [package for package in packages if importlib.util.find_spec(package) is None]
    if lacking:
        raise UsageError(
            f"--format {format_name} needs {' and '.join(lacking)}: {install_command('export')}"
        )


def load_trained_model(cfg: CfgNode, prefix: str = "") -> nn.Module:
    """The config's model with the weights of MODEL.WEIGHTS, in inference mode.

    Args:
        cfg: a config.
        prefix: the tensors whose names begin with it must be in the checkpoint, those of non-local
            blocks apart.

    Raises:
        UsageError: no checkpoint, one that cannot be read, or one that lacks such tensors.
    """
    if not cfg.MODEL.WEIGHTS:
        raise UsageError("MODEL.WEIGHTS is empty: give a checkpoint, --opts MODEL.WEIGHTS FILE")
    build_on_meta(cfg)
    loaded = load_model(cfg)
    loaded.check_trained("an export", prefix)
    return loaded.model


def describe_part(part: ExportPart, cfg: CfgNode) -> str:
    """Its input and outputs in a line."""
    outputs = ", ".join(part.output_names)
    if part.input_name == "clips":
        clip = ", ".join(map(str, part.images[0].shape[1:]))
        return f"(B, {clip}), RGB of 0 to 255 -> {outputs}"
    sides = f", multiples of {part.step}" if part.step > 1 else ""
    sides += f" from {part.step * part.min_steps}" if part.min_steps > 1 else ""
    shape = ", ".join([*map(str, part.images[0].shape[:-2]), "H", "W"])
    return f"({shape}){sides}, {cfg.INPUT.FORMAT} of 0 to 255 -> {outputs}"
