"""The meta-architecture that classifies clips.

Axes: B clips, V views of a video, K classes, C channels, T frames, H rows, W columns.
"""

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn
from torch.nn import functional as F


@META_ARCH_REGISTRY.register()
class VideoClassifier(nn.Module):
    """A backbone, a pool over time and space, dropout and a linear classifier (Table 1).

    In training the pool is over the whole map. In evaluation the classifier is fully convolutional
    (Sec. 4): it is applied to each window of the size that training has seen, and the
    probabilities are averaged.

    Args:
        backbone: computes maps (B,C,T,H,W) by name; the last one is classified.
        num_classes: K.
        pixel_mean, pixel_std: mean and standard deviation of each channel, in 0 to 255, in the
            order of ``input_format``.
        dropout: share of the features that training leaves out.
        multi_label: classes do not exclude each other: sigmoid and binary cross-entropy instead of
            softmax and cross-entropy.
        crop_size: side in pixels of training's crops, which gives the window: 7 positions of
            stride 32 for 224 pixels.
        fully_conv: whether evaluation has such windows, or one that is the whole map.
        views_per_pass: views that a forward pass of evaluation takes at once.
        input_format: order of the channels in the weights, RGB or BGR; the clips are RGB.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        num_classes: int,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        dropout: float = 0.5,
        multi_label: bool = False,
        crop_size: int = 224,
        fully_conv: bool = True,
        views_per_pass: int = 6,
        input_format: str = "RGB",
    ):
        super().__init__()
        self.backbone = backbone
        self.feature, shape = list(backbone.output_shape().items())[-1]
        self.window = -(-crop_size // (shape.stride or 1))
        self.fully_conv = fully_conv
        self.num_classes, self.multi_label = num_classes, multi_label
        self.views_per_pass, self.input_format = views_per_pass, input_format
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(shape.channels or 0, num_classes)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            tensor = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        video = cfg.MODEL.VIDEO
        return {
            "backbone": build_backbone(cfg),
            "num_classes": video.NUM_CLASSES,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "dropout": video.DROPOUT,
            "multi_label": video.MULTI_LABEL,
            "crop_size": cfg.INPUT.VIDEO.CROP_SIZE,
            "fully_conv": cfg.TEST.VIDEO.FULLY_CONV,
            "views_per_pass": cfg.TEST.VIDEO.BATCH,
            "input_format": cfg.INPUT.FORMAT,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict[str, Any]]) -> Any:
        """Compute the loss in training, and the scores of each video in evaluation.

        Args:
            batched_inputs: in training ``clip``, RGB uint8 (3,T,H,W), and ``label``, a class, or
                with ``multi_label`` ``labels``, a list of classes; in evaluation ``clips``, RGB
                uint8 (V,3,T,H,W), the views of one video.

        Returns:
            In training ``{"loss_cls": loss}``. In evaluation a dict for each video, ``{"scores":
            (V,K)}``, the probabilities of each of its views.
        """
        if not self.training:
            return [{"scores": self._scores_of_views(item["clips"])} for item in batched_inputs]
        clips = torch.stack([item["clip"].to(self.device) for item in batched_inputs])
        logits = self.pooled_logits(clips)
        targets = self._targets(batched_inputs)
        _log_accuracy(logits, targets)
        if self.multi_label:
            loss = F.binary_cross_entropy_with_logits(logits.float(), targets)
        else:
            loss = F.cross_entropy(logits.float(), targets.argmax(dim=1))
        return {"loss_cls": loss}

    def features(self, clips: Tensor) -> Tensor:
        """The last map (B,C,T',H',W') of RGB clips (B,3,T,H,W) with values of 0 to 255."""
        x = clips.to(self.pixel_mean.dtype)
        if self.input_format == "BGR":
            x = x.flip(1)
        return self.backbone((x - self.pixel_mean) / self.pixel_std)[self.feature]

    def pooled_logits(self, clips: Tensor) -> Tensor:
        """Scores before the softmax, (B,K), of the whole map of RGB clips, as in training."""
        return self.linear(self.dropout(self.features(clips).mean(dim=(2, 3, 4))))

    def scores(self, clips: Tensor) -> Tensor:
        """The probabilities (B,K) of RGB clips (B,3,T,H,W), as in evaluation."""
        frames = self.features(clips).mean(dim=2)
        window = frames.shape[2:]
        if self.fully_conv:
            window = [min(self.window, side) for side in window]
        windows = F.avg_pool2d(frames, window, stride=1)  # (B,C,rows,columns)
        logits = self.linear(windows.permute(0, 2, 3, 1)).float()
        probabilities = logits.sigmoid() if self.multi_label else logits.softmax(dim=-1)
        return probabilities.mean(dim=(1, 2))

    def _scores_of_views(self, views: Tensor) -> Tensor:
        """Scores (V,K) of views (V,3,T,H,W), some at a time."""
        parts = views.split(self.views_per_pass)
        return torch.cat([self.scores(part.to(self.device)) for part in parts])

    def _targets(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """One row of zeros and ones for each clip, (B,K)."""
        key = "labels" if self.multi_label else "label"
        targets = torch.zeros(len(batched_inputs), self.num_classes)
        for row, item in zip(targets, batched_inputs, strict=True):
            row[item[key]] = 1
        return targets.to(self.device)


def _log_accuracy(logits: Tensor, targets: Tensor) -> None:
    """Log the share of clips whose highest class is right, with one view of each."""
    if has_event_storage():
        right = targets.gather(1, logits.detach().argmax(dim=1, keepdim=True))
        get_event_storage().put_scalar("video_classifier/accuracy", right.mean().item())
