"""Training and evaluation over Detectron2's own trainer."""

from .checkpoint import Checkpointer
from .errors import UsageError
from .setup import build_on_meta, load_config, preflight, start_run
from .trainer import Trainer, evaluate

__all__ = [
    "Checkpointer",
    "Trainer",
    "UsageError",
    "build_on_meta",
    "evaluate",
    "load_config",
    "preflight",
    "start_run",
]
