"""Non-local neural networks (Wang et al., CVPR 2018) for Detectron2.

Importing the package registers its backbones, RoI heads and data sets with Detectron2.
"""

import warnings

try:
    import detectron2  # noqa: F401
except ImportError as error:
    from nl_detectron_cli.names import setup_command

    raise ImportError(
        "nl_detectron extends Detectron2, which does not import here "
        f"({error}). Install it from its repository, or run `{setup_command()}` for a wheel that "
        "needs no compiler."
    ) from error

with warnings.catch_warnings():
    # by Detectron2 and fvcore, which script functions as they are imported
    warnings.filterwarnings("ignore", ".torch.jit.script. is deprecated", FutureWarning)
    from . import modeling
    from .config import add_nonlocal_config
    from .data.video.builtin import register_builtin_videos
    from .modeling import insert_nonlocal
    from .relay import register_relay
    from .version import __version__
    from .video_relay import register_video_relay

register_relay()
register_video_relay()
register_builtin_videos()

__all__ = ["__version__", "add_nonlocal_config", "insert_nonlocal", "modeling"]
