"""Whole video networks of other projects, written from their code, with random weights.

Clips are uint8 RGB (B,3,T,H,W); a network is its tensors in the project's names, and ``Network``
says what its code does with them.
"""

from dataclasses import dataclass, field

import torch
from block_equations import EMBEDDED, compute_block, make_weights, rename_tensors
from torch import Tensor
from torch.nn import functional as F

STAGES = (3, 4, 6, 3)  # residual blocks of a ResNet-50
FIVE = ((3, 1), (3, 3), (4, 1), (4, 3), (4, 5))
IN_TIME = {2: (3, 3, 3), 3: (3, 1, 3, 1), 4: (3, 1, 3, 1, 3, 1), 5: (1, 3, 1)}  # of an I3D
STATISTICS = ("running_mean", "running_var")
POOL1 = {  # kernel, stride, padding; those with a stride of 2 in time, and those without
    ("caffe2", 2): ((2, 3, 3), (2, 2, 2), (0, 0, 0)),
    ("caffe2", 1): ((1, 3, 3), (1, 2, 2), (0, 0, 0)),
    ("slowfast", 1): ((1, 3, 3), (1, 2, 2), (0, 1, 1)),
    ("mmaction2", 2): ((1, 3, 3), (2, 2, 2), (0, 1, 1)),
}
BLOCK_KIND = {  # where the pool is, and the scale of an embedded Gaussian
    "caffe2": ("before", "divided"),
    "slowfast": ("before", "divided"),
    "mmaction2": ("after", "none"),
}


@dataclass(frozen=True)
class Network:
    """What a project computes.

    Attributes:
        project: whose code it is.
        names: whose names its tensors have: SlowFast's own, or those of Caffe2.
        i3d: whether it is an I3D of 3x1x1 kernels.
        stride: of conv1 and of pool1 in time.
        pool2: whether there is one.
        places: stage and number of the residual blocks that a non-local block follows.
        form: pairwise function.
        affine: norms are layers of a scale and a shift, and blocks of res3 see 4 frames at a time.
        width: channels of the stem.
        classes: K.
        block_weights: of the non-local blocks that ``make`` made, by place.
    """

    project: str
    names: str = ""
    i3d: bool = True
    stride: int = 1
    pool2: bool = True
    places: tuple[tuple[int, int], ...] = FIVE
    form: str = EMBEDDED
    affine: bool = False
    width: int = 8
    classes: int = 12
    block_weights: dict = field(default_factory=dict, compare=False)

    def name(self, layer: str, stage: int = 0, number: int = 0) -> tuple[str, str]:
        """Names of a conv and of its norm; a layer is stem, a, b, c, shortcut or head."""
        style, s, n = self.names or self.project, stage, number
        if style == "caffe2":
            conv = {"stem": "conv1", "head": "pred", "shortcut": f"res{s}_{n}_branch1"}.get(
                layer, f"res{s}_{n}_branch2{layer}"
            )
            return conv, "res_conv1_bn" if layer == "stem" else f"{conv}_bn"
        if style == "slowfast":
            within = f"s{s}.pathway0_res{n}."
            return {
                "stem": ("s1.pathway0_stem.conv", "s1.pathway0_stem.bn"),
                "head": ("head.projection", ""),
                "shortcut": (f"{within}branch1", f"{within}branch1_bn"),
            }.get(layer, (f"{within}branch2.{layer}", f"{within}branch2.{layer}_bn"))
        within = f"backbone.layer{s - 1}.{n}."
        part = {
            "stem": "backbone.conv1",
            "shortcut": f"{within}downsample",
            **{letter: f"{within}conv{'abc'.index(letter) + 1}" for letter in "abc"},
        }.get(layer, "")
        return ("cls_head.fc_cls", "") if layer == "head" else (f"{part}.conv", f"{part}.bn")

    def kind(self, word: str) -> str:
        """The end of a tensor's name."""
        if (self.names or self.project) != "caffe2":
            return f".{word}"
        return "_" + {"running_mean": "rm", "running_var": "riv"}.get(word, word[0])

    def norm_kind(self, word: str) -> str:
        return "_s" if self.kind(word) == "_w" else self.kind(word)

    def block_name(self, stage: int, number: int) -> str:
        return {
            "caffe2": f"nonlocal_conv{stage}_{number}_",
            "slowfast": f"s{stage}.pathway0_nonlocal{number}.",
            "mmaction2": f"backbone.layer{stage - 1}.{number}.non_local_block.",
        }[self.names or self.project]

    # --- random weights ----------------------------------------------------------------------

    def make(self) -> dict[str, Tensor]:
        """Tensors by name, with norms that are far from identities."""
        made: dict[str, Tensor] = {}

        def add(layer: str, shape: tuple[int, ...], stage: int = 0, number: int = 0) -> None:
            conv, norm = self.name(layer, stage, number)
            spread = (2 / (shape[1] * shape[2] * shape[3] * shape[4])) ** 0.5
            made[conv + self.kind("weight")] = torch.randn(shape) * spread
            size = shape[0]
            scale = 0.3 if layer == "c" else 1.0
            made[norm + self.norm_kind("weight")] = scale * (0.6 + 0.8 * torch.rand(size))
            made[norm + self.norm_kind("bias")] = 0.2 * torch.randn(size)
            if not self.affine:
                made[norm + self.norm_kind("running_mean")] = 0.2 * torch.randn(size)
                made[norm + self.norm_kind("running_var")] = 0.5 + 1.5 * torch.rand(size)

        width = self.width
        add("stem", (width, 3, 5 if self.i3d else 1, 7, 7))
        channels = width
        for stage, count in zip((2, 3, 4, 5), STAGES, strict=True):
            inner = width * 2 ** (stage - 2)
            for number in range(count):
                frames = IN_TIME[stage][number] if self.i3d else 1
                add("a", (inner, channels, frames, 1, 1), stage, number)
                add("b", (inner, inner, 1, 3, 3), stage, number)
                add("c", (4 * inner, inner, 1, 1, 1), stage, number)
                if number == 0:
                    add("shortcut", (4 * inner, channels, 1, 1, 1), stage, number)
                channels = 4 * inner
                if (stage, number) in self.places:
                    made |= self._make_block(stage, number, channels)
        head = self.name("head")[0]
        made[head + self.kind("weight")] = torch.randn(self.classes, channels) / 4 / channels**0.5
        made[head + self.kind("bias")] = torch.randn(self.classes) / 2
        return made

    def _make_block(self, stage: int, number: int, channels: int) -> dict[str, Tensor]:
        norm = "" if self.affine else "BN"
        p = make_weights(self.form, norm, channels, channels // 2)
        for key, tensor in p.items():
            small = tensor.shape[-1] ** -0.5 if key.endswith(".w") else 1.0
            small *= 0.2 if self.form == "dot_product" else 1.0  # whose sums are not of 1
            p[key] = (small * tensor).float()
        if self.project == "mmaction2":
            del p["out.b"]
        pooled = BLOCK_KIND[self.project][0]
        self.block_weights[stage, number] = p
        style = {"mmaction2": "mmcv"}.get(self.names or self.project, self.names or self.project)
        named = rename_tensors(p, style, pooled, norm, 3)
        return {self.block_name(stage, number) + key: t for key, t in named.items()}

    # --- outputs -----------------------------------------------------------------------------

    def scores(self, tensors: dict[str, Tensor], clips: Tensor, window: int) -> Tensor:
        """Probabilities (B,K) of clips."""
        return self.classify(tensors, self.features(tensors, clips), window)

    def classify(self, tensors: dict[str, Tensor], x: Tensor, window: int) -> Tensor:
        """Probabilities (B,K) of maps, averaged over windows where the project has any."""
        head = self.name("head")[0]
        weight, bias = (tensors[head + self.kind(word)] for word in ("weight", "bias"))
        if self.project == "mmaction2":
            return torch.softmax(x.mean(dim=(2, 3, 4)) @ weight.T + bias, dim=1)
        x = F.avg_pool3d(x, (x.shape[2], window, window), stride=1)
        logits = torch.einsum("bcthw,kc->bkthw", x, weight) + bias.reshape(-1, 1, 1, 1)
        return logits.softmax(dim=1).mean(dim=(2, 3, 4))

    def features(self, tensors: dict[str, Tensor], clips: Tensor) -> Tensor:
        def layer(
            x: Tensor, layer: str, stage: int = 0, number: int = 0, stride: tuple = (1, 1, 1)
        ) -> Tensor:
            conv, norm = self.name(layer, stage, number)
            weight = tensors[conv + self.kind("weight")]
            x = F.conv3d(x, weight, stride=stride, padding=[k // 2 for k in weight.shape[2:]])
            words = ("weight", "bias") if self.affine else ("weight", "bias", *STATISTICS)
            s, b, *statistics = (
                tensors[norm + self.norm_kind(w)][:, None, None, None] for w in words
            )
            if statistics:
                x = (x - statistics[0]) / torch.sqrt(statistics[1] + 1e-5)
            return s * x + b

        x = self.normalised(clips)
        x = torch.relu(layer(x, "stem", stride=(self.stride, 2, 2)))
        x = F.max_pool3d(x, *POOL1[self.project, self.stride])
        for stage, count in zip((2, 3, 4, 5), STAGES, strict=True):
            for number in range(count):
                step = (1, 2, 2) if number == 0 and stage > 2 else (1, 1, 1)
                y = torch.relu(layer(x, "a", stage, number))
                y = torch.relu(layer(y, "b", stage, number, step))
                y = layer(y, "c", stage, number)
                x = layer(x, "shortcut", stage, number, step) if number == 0 else x
                x = torch.relu(x + y)
                if (stage, number) in self.places:
                    x = self._block(x, stage, number)
            if stage == 2 and self.pool2:
                x = F.max_pool3d(x, (2, 1, 1), (2, 1, 1))
        return x

    def normalised(self, clips: Tensor) -> Tensor:
        if self.project == "caffe2":
            return (clips.float() - 114.75) / 57.375
        if self.project == "slowfast":
            return (clips.float() / 255 - 0.45) / 0.225
        mean, std = (
            torch.tensor(values)[:, None, None, None]
            for values in ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
        )
        return (clips.float() - mean) / std

    def _block(self, x: Tensor, stage: int, number: int) -> Tensor:
        p, kind = self.block_weights[stage, number], BLOCK_KIND[self.project]
        if not self.affine:
            return compute_block(x, p, self.form, *kind, "BN")
        groups = x.split(4, dim=2) if stage == 3 else [x]
        return torch.cat([compute_block(g, p, self.form, *kind, "") for g in groups], dim=2)
