"""The exported part of a video model: the whole classifier, for any number of clips."""

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..errors import UsageError
from ..modeling import VideoClassifier
from .parts import ExportPart

BATCHES = (2, 1, 3)  # clips, of the batches that an export is checked on


class ClipProbabilities(nn.Module):
    """Probabilities (B,K) of clips (B,3,T,H,W), RGB of 0 to 255."""

    def __init__(self, classifier: VideoClassifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, clips: Tensor) -> tuple[Tensor]:
        return (self.classifier.scores(clips),)


def clips_part(model: VideoClassifier, cfg: CfgNode, image_file: str | None) -> ExportPart:
    """The classifier for clips of the config's frames and test crop.

    Args:
        model: in inference mode.
        cfg: its config.
        image_file: must be None, as it is checked on clips of noise.

    Raises:
        UsageError: an image is given.
    """
    if image_file:
        raise UsageError(
            f"--image {image_file}: a video model is checked on made-up clips; leave it out"
        )
    video = cfg.TEST.VIDEO
    side = video.CROP_SIZE or video.SHORT_SIDE
    generator = torch.Generator().manual_seed(0)
    batches = [
        (255 * torch.rand(n, 3, cfg.INPUT.VIDEO.FRAMES, side, side, generator=generator)).to(
            cfg.MODEL.DEVICE
        )
        for n in BATCHES
    ]
    module = ClipProbabilities(model).eval()
    return ExportPart(module, ["probabilities"], batches, input_name="clips")
