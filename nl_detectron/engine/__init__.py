"""Training and evaluation over Detectron2's own trainer, for YAML files and LazyConfigs alike."""

from .arguments import add_dataset_argument, argument_parser, config_from_args, make_output
from .batch import scale_batch
from .checkpoint import Checkpointer
from .loading import LoadedModel, build_on_meta, describe_run, load_model, load_run
from .preflight import announce, preflight
from .run import Run
from .setup import start_run
from .trainer import Trainer, evaluate
from .trust import add_checkpoint_argument, add_trust_arguments, trust, trust_from_args
from .yaml_config import load_config

__all__ = [
    "Checkpointer",
    "LoadedModel",
    "Run",
    "Trainer",
    "add_checkpoint_argument",
    "add_dataset_argument",
    "add_trust_arguments",
    "announce",
    "argument_parser",
    "build_on_meta",
    "config_from_args",
    "describe_run",
    "evaluate",
    "load_config",
    "load_model",
    "load_run",
    "make_output",
    "preflight",
    "scale_batch",
    "start_run",
    "trust",
    "trust_from_args",
]
