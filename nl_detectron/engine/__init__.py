"""Training and evaluation over Detectron2's own trainer."""

from .arguments import add_dataset_argument, argument_parser, configured, make_output
from .batch import scale_batch
from .checkpoint import Checkpointer
from .setup import build_on_meta, load_config, preflight, start_run
from .trainer import Trainer, evaluate

__all__ = [
    "Checkpointer",
    "Trainer",
    "add_dataset_argument",
    "argument_parser",
    "build_on_meta",
    "configured",
    "evaluate",
    "load_config",
    "make_output",
    "preflight",
    "scale_batch",
    "start_run",
]
