#!/usr/bin/env python3
"""Export a model: the whole detector as TorchScript, or its backbone as ONNX or by torch.export.

python tools/export_model.py --config-file configs/Demo/relay_mask_rcnn_nl.yaml \
    --format torchscript --output exported --opts MODEL.WEIGHTS model_final.pth

What was written is read again and held against the model at three image sizes: an output that
differs by more than 1e-4 of its largest value is an error, and the file is deleted.
"""

import argparse
import importlib.util
import sys
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data.detection_utils import read_image
from detectron2.export import TracingAdapter
from detectron2.modeling import GeneralizedRCNN
from detectron2.structures import Instances
from torch import Tensor, nn
from torch.nn import functional as F

from nl_detectron.engine import (
    Checkpointer,
    build_on_meta,
    load_config,
    make_output,
)
from nl_detectron.engine.checkpoint import fresh_outside_blocks, read_checkpoint
from nl_detectron.errors import UsageError
from nl_detectron.modeling import build_model

BOUND = 1e-4  # of a difference, over the largest value of its output

Run = Callable[[Tensor], Sequence[Tensor]]  # an image to the outputs


class Part(NamedTuple):
    """What is exported: a module of one image, its outputs' names, and images to check it on.

    The images' sides are multiples of ``step``, ``least`` times at least. The first is the example.
    """

    module: nn.Module
    names: list[str]
    images: list[Tensor]
    step: int = 1
    least: int = 1


class Backbone(nn.Module):
    """The backbone on pixels: (1,3,H,W) to a map of each level, normalised as GeneralizedRCNN does.

    H and W are multiples of the backbone's ``size_divisibility``; a detector pads with zeros after
    it has normalised.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.backbone = model.backbone
        self.register_buffer("pixel_mean", model.pixel_mean)
        self.register_buffer("pixel_std", model.pixel_std)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone((image - self.pixel_mean) / self.pixel_std)
        return tuple(features[name] for name in self.backbone.output_shape())


def main(argv: Sequence[str] | None = None) -> None:
    args = parsed(argv)
    form = FORMATS[args.format]
    check_packages(args.format)
    cfg = load_config(args.config_file, [*args.opts, *form.opts])
    model = load_model(cfg, form.whole)
    part = (detector if form.whole else backbone)(model, cfg, args.image)
    make_output(args.output)
    path = args.output / form.file
    warnings.simplefilter("ignore", torch.jit.TracerWarning)  # Detectron2 has many, all meant
    warnings.filterwarnings("ignore", ".torch.jit", FutureWarning)  # deprecated: docs/ tell it
    try:
        with torch.no_grad():
            form.write(part, path)
    except Exception as error:  # each exporter raises a family of its own
        reason = " ".join(str(error).split())[:300]
        raise UsageError(
            f"this model cannot be exported as {args.format}: {type(error).__name__}: {reason}"
        ) from error
    print(f"{path}: {describe_part(part, cfg)}")
    try:
        for line in checked(part, form.read(path)):
            print(f"  {line}", flush=True)
    except UsageError:
        path.unlink()
        raise


def parsed(argv: Sequence[str] | None) -> Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config-file", required=True, metavar="FILE")
    parser.add_argument(
        "--format",
        required=True,
        choices=FORMATS,
        help="torchscript: the whole detector; onnx, torch_export: its backbone, with FPN and "
        "blocks, as the heads work on as many boxes as they find",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--image",
        metavar="FILE",
        help="what the export is checked on; made up by default, which may show a detector nothing",
    )
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE overrides, last"
    )
    return parser.parse_args(argv)


def check_packages(name: str) -> None:
    lacking = [p for p in FORMATS[name].packages if importlib.util.find_spec(p) is None]
    if lacking:
        raise UsageError(
            f"--format {name} needs {' and '.join(lacking)}: pip install -r requirements-export.txt"
        )


def load_model(cfg: CfgNode, whole: bool) -> nn.Module:
    """With the weights of its checkpoint, in inference mode.

    Raises:
        UsageError: weights that lack a part of what is exported, or a model that is no detector
            with proposals of its own.
    """
    path = cfg.MODEL.WEIGHTS
    if not path:
        raise UsageError("MODEL.WEIGHTS is empty: give a checkpoint, --opts MODEL.WEIGHTS FILE")
    build_on_meta(cfg)
    read_checkpoint(path)
    model = build_model(cfg).eval()
    checkpointer = Checkpointer(model)
    checkpointer.load(path)
    fresh = fresh_outside_blocks(checkpointer)
    if lacking := [name for name in fresh if whole or name.startswith("backbone.")]:
        raise UsageError(
            f"checkpoint {path!r} lacks {len(lacking)} of this model's tensors (such as "
            f"{lacking[0]}), so an export would mean nothing; give a trained model's checkpoint"
        )
    if whole and not (isinstance(model, GeneralizedRCNN) and model.proposal_generator):
        raise UsageError(
            "a whole detector is exported of GeneralizedRCNN with a proposal generator, and this "
            f"is {type(model).__name__} with MODEL.PROPOSAL_GENERATOR.NAME "
            f"{cfg.MODEL.PROPOSAL_GENERATOR.NAME}; --format onnx and torch_export take the "
            "backbone of any model"
        )
    return model


def detector(model: GeneralizedRCNN, cfg: CfgNode, file: str | None) -> Part:
    """All of it but the last step, which scales what was found to another size of image."""

    def instances(model: GeneralizedRCNN, inputs: list[dict]) -> Instances:
        return model.inference(inputs, do_postprocess=False)[0]

    images = three_images(cfg, file)
    adapter = TracingAdapter(model, [{"image": images[0]}], instances)
    adapter(images[0])  # it learns its outputs
    return Part(adapter, [*adapter.outputs_schema.keys, "image_size"], images)


def backbone(model: nn.Module, cfg: CfgNode, file: str | None) -> Part:
    levels = model.backbone.output_shape()
    step = max(model.backbone.size_divisibility, 1)
    # two positions a side on every level, also on one of stride 32 that a block has pooled
    least = max(128, *(2 * level.stride for level in levels.values())) // step
    images = [image[None] for image in three_images(cfg, file, step, least)]
    return Part(Backbone(model).eval(), list(levels), images, step, least)


def three_images(cfg: CfgNode, file: str | None, step: int = 1, least: int = 1) -> list[Tensor]:
    """One image, a wide, a high and a small one by the sizes of the config's tests: (3,H,W).

    Raises:
        UsageError: a file that cannot be read.
    """
    if file:
        try:
            pixels = torch.from_numpy(read_image(file, cfg.INPUT.FORMAT).astype(np.float32))
        except Exception as error:  # PIL and numpy raise their own
            raise UsageError(f"--image {file}: cannot be read ({error})") from error
        image = pixels.permute(2, 0, 1)[None]
    else:
        image = 255 * torch.rand(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    side = cfg.INPUT.MIN_SIZE_TEST or 800
    sizes = (side, side * 4 // 3), (side * 5 // 4, side), (side // 2, side * 3 // 4)
    found = []
    for size in sizes:
        size = [max(round(s / step), least) * step for s in size]
        scaled = F.interpolate(image, size, mode="bilinear", antialias=True)[0]
        found.append(scaled.to(cfg.MODEL.DEVICE))
    return found


def write_torchscript(part: Part, path: Path) -> None:
    # its own check would be at the same size
    torch.jit.trace(part.module, (part.images[0],), check_trace=False).save(str(path))


def write_torch_export(part: Part, path: Path) -> None:
    shapes = (any_size(part),)
    program = torch.export.export(part.module, (part.images[0],), dynamic_shapes=shapes)
    torch.export.save(program, path)


def write_onnx(part: Part, path: Path) -> None:
    torch.onnx.export(
        part.module,
        (part.images[0],),
        path,
        dynamo=True,
        dynamic_shapes=(any_size(part),),
        input_names=["image"],
        output_names=part.names,
        external_data=False,
        verbose=False,
    )


def any_size(part: Part) -> dict:
    """Multiples of the step, since an FPN adds maps of neighbouring levels.

    A map of one position is left out: torch.export takes a side of 1 for another case.
    """
    height, width = (torch.export.Dim(name, min=part.least) for name in ("height", "width"))
    return {2: part.step * height, 3: part.step * width}


def read_torchscript(path: Path) -> Run:
    return torch.jit.load(str(path))


def read_torch_export(path: Path) -> Run:
    return torch.export.load(path).module()


def read_onnx(path: Path) -> Run:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda image: [
        torch.from_numpy(output) for output in session.run(None, {"image": image.numpy()})
    ]


def describe_part(part: Part, cfg: CfgNode) -> str:
    of = f", multiples of {part.step}" if part.step > 1 else ""
    of += f" from {part.step * part.least}" if part.least > 1 else ""
    shape = ", ".join([*map(str, part.images[0].shape[:-2]), "H", "W"])
    return f"({shape}){of}, {cfg.INPUT.FORMAT} of 0 to 255 -> {', '.join(part.names)}"


def checked(part: Part, exported: Run) -> Iterator[str]:
    """A line for each image.

    Raises:
        UsageError: other outputs than the model's, or none to compare.
    """
    values = 0
    for image in part.images:
        with torch.no_grad():
            found = exported(image)
            with nms_of_a_graph():
                expected = part.module(image)
        size = f"{image.shape[-2]} x {image.shape[-1]}"
        largest = 0.0
        for name, a, b in zip(part.names, expected, found, strict=True):
            if a.shape != b.shape:
                raise UsageError(
                    f"at {size} {name} is {tuple(b.shape)}, but the model's is {tuple(a.shape)}"
                )
            difference = relative(a, b)
            if not difference <= BOUND:  # a NaN is not
                raise UsageError(
                    f"at {size} {name} differs from the model's by {difference:.1e} of its largest "
                    f"value, and {BOUND:.0e} is the most that passes; the file is deleted"
                )
            largest = max(largest, difference)
        values += expected[0].numel()
        yield f"{size}: {name_count(part, expected)}largest difference {largest:.1e}"
    if not values:
        raise UsageError(
            "the model finds nothing in these images, so there is nothing to compare; give "
            "--image FILE, one in which it finds objects"
        )


def nms_of_a_graph() -> AbstractContextManager:
    """torchvision's non-maximum suppression as it is in a graph: all classes at once, moved apart.

    Without a graph it takes more than 1,000 boxes class by class, which settles equal scores, and
    overlaps within rounding of the threshold, in another way.
    """
    return mock.patch("torchvision._is_tracing", return_value=True)


def name_count(part: Part, outputs: Sequence[Tensor]) -> str:
    return f"{len(outputs[0])} detections, " if "scores" in part.names else ""


def relative(a: Tensor, b: Tensor) -> float:
    """The largest difference over the largest value."""
    if not a.numel():
        return 0.0
    a, b = a.double(), b.double()
    return ((a - b).abs().max() / a.abs().max().clamp(min=1e-6)).item()


class Format(NamedTuple):
    """Its file, whether it holds the whole detector, and what it needs."""

    file: str
    whole: bool
    write: Callable[[Part, Path], None]
    read: Callable[[Path], Run]
    packages: tuple[str, ...] = ()
    opts: tuple[str, ...] = ()


FORMATS = {
    "torchscript": Format("detector.ts", True, write_torchscript, read_torchscript),
    "onnx": Format(
        "backbone.onnx",
        False,
        write_onnx,
        read_onnx,
        packages=("onnx", "onnxscript", "onnxruntime"),
        opts=("MODEL.DEVICE", "cpu"),  # the file has no device, and onnxruntime's is the CPU here
    ),
    "torch_export": Format("backbone.pt2", False, write_torch_export, read_torch_export),
}


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(f"export_model.py: error: {error}")
