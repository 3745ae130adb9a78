"""Training and evaluation over Detectron2's own trainer."""

from .checkpoint import Checkpointer
from .errors import UsageError
from .setup import load_config, preflight, start_run
from .trainer import Trainer, evaluate

__all__ = [
    "Checkpointer",
    "Trainer",
    "UsageError",
    "evaluate",
    "load_config",
    "preflight",
    "start_run",
]
