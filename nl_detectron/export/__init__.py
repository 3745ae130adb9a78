"""Export of trained models: a whole detector as TorchScript, a backbone as ONNX or torch.export, a
video classifier as any of them."""

from .exporter import export_model
from .formats import FORMATS, ExportFormat

__all__ = ["FORMATS", "ExportFormat", "export_model"]
