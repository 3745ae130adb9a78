"""The formats of an export: how each is written and read again."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from .parts import ExportPart

Inference = Callable[[Tensor], Sequence[Tensor]]  # of an image


class ExportFormat(NamedTuple):
    """A file format.

    Attributes:
        file: name of the file; that of a video model is ``classifier`` with the same ending.
        whole_detector: it holds the whole detector; else the backbone. Of a video model it holds
            the whole classifier in any case.
        write: writes a part to a path.
        read: reads such a file again, to run it.
        packages: what it needs besides torch.
        opts: config overrides.
    """

    file: str
    whole_detector: bool
    write: Callable[[ExportPart, Path], None]
    read: Callable[[Path], Inference]
    packages: tuple[str, ...] = ()
    opts: tuple[str, ...] = ()


def write_torchscript(part: ExportPart, path: Path) -> None:
    """Trace the part with its first image."""
    # its own check would be at the same size
    traced = torch.jit.trace(part.module, (part.images[0],), check_trace=False)
    cast(torch.jit.ScriptModule, traced).save(str(path))


def read_torchscript(path: Path) -> Inference:
    return torch.jit.load(str(path))


def write_torch_export(part: ExportPart, path: Path) -> None:
    """Write an ExportedProgram for images of any allowed size, or any number of clips."""
    shapes = (dynamic_shape(part),)
    program = torch.export.export(part.module, (part.images[0],), dynamic_shapes=shapes)
    torch.export.save(program, path)


def read_torch_export(path: Path) -> Inference:
    return torch.export.load(path).module()


def write_onnx(part: ExportPart, path: Path) -> None:
    """Write one file, weights included, for images of any allowed size, or any number of clips."""
    torch.onnx.export(
        part.module,
        (part.images[0],),
        path,
        dynamo=True,
        dynamic_shapes=(dynamic_shape(part),),
        input_names=[part.input_name],
        output_names=part.output_names,
        external_data=False,
        verbose=False,
    )


def read_onnx(path: Path) -> Inference:
    import onnxruntime  # pyright: ignore[reportMissingImports]  # optional

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: [
        torch.from_numpy(output) for output in session.run(None, {name: image.numpy()})
    ]


def dynamic_shape(part: ExportPart) -> dict[int, Any]:
    """What may change in a part's input: the number of clips (B,3,T,H,W), or the sides of an image
    (1,3,H,W), multiples of the step, as an FPN adds maps of neighbouring levels.

    A map of one position is left out: torch.export treats a side of 1 as a case of its own.
    """
    if part.input_name == "clips":
        return {0: torch.export.Dim("batch")}
    height, width = (torch.export.Dim(name, min=part.min_steps) for name in ("height", "width"))
    return {2: part.step * height, 3: part.step * width}


FORMATS = {
    "torchscript": ExportFormat("detector.ts", True, write_torchscript, read_torchscript),
    "onnx": ExportFormat(
        "backbone.onnx",
        False,
        write_onnx,
        read_onnx,
        packages=("onnx", "onnxscript", "onnxruntime"),
        opts=("MODEL.DEVICE", "cpu"),  # the file has no device, and onnxruntime's is the CPU here
    ),
    "torch_export": ExportFormat("backbone.pt2", False, write_torch_export, read_torch_export),
}
