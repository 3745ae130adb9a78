"""A model whose attention is known: its features are the image's own mean colours.

A gaussian block on them looks from a bright cell at all bright cells and nowhere else.
"""

from collections import OrderedDict
from functools import partial

import torch
from detectron2.layers import ROIAlign
from detectron2.structures import Boxes, ImageList, Instances
from torch import nn

from nl_detectron.attention import record_attention
from nl_detectron.layers import NonLocalBlock

STRIDE, DIVISOR, BINS = 16, 32, 14
record_rgb = partial(record_attention, image_format="RGB")


class Backbone(nn.Module):
    size_divisibility = DIVISOR

    def __init__(self, subsample):
        super().__init__()
        block = NonLocalBlock(3, pairwise="gaussian", subsample=subsample)
        layers = OrderedDict(pool=nn.AvgPool2d(STRIDE), nonlocal0=block)
        self.res4 = nn.Sequential(layers)

    def forward(self, x):
        return self.res4(x)


class Head(nn.Module):
    def __init__(self, subsample):
        super().__init__()
        self.nonlocal2 = NonLocalBlock(3, pairwise="gaussian", subsample=subsample)

    def forward(self, x, instances):
        return self.nonlocal2(x)


class ColourModel(nn.Module):
    """Finds the boxes that it is given, in pixels of each image as it is, mirrored or not."""

    input_format = "RGB"

    def __init__(self, boxes, subsample="none", mirrored=False):
        super().__init__()
        self.backbone = Backbone(subsample)
        self.keypoint_head = Head(subsample)
        self.boxes, self.mirrored = boxes, mirrored

    def forward(self, inputs):
        images = ImageList.from_tensors([i["image"].float() / 16 for i in inputs], DIVISOR)
        self.backbone(images.tensor)
        found = []
        for given, one in zip(self.boxes, inputs, strict=True):
            height, width = one["image"].shape[1:]
            boxes = torch.tensor(given, dtype=torch.float).reshape(-1, 4).clone()
            if self.mirrored:
                boxes[:, [0, 2]] = one["width"] - boxes[:, [2, 0]]
            boxes[:, 0::2] *= width / one["width"]
            boxes[:, 1::2] *= height / one["height"]
            found.append(Instances((height, width), pred_boxes=Boxes(boxes)))
        align = ROIAlign(BINS, 1.0, sampling_ratio=0, aligned=True)
        rois = [
            torch.cat([torch.full((len(f), 1), float(n)), f.pred_boxes.tensor], dim=1)
            for n, f in enumerate(found)
        ]
        self.keypoint_head(align(images.tensor, torch.cat(rois)), found)
        return [{"instances": f} for f in found]
