"""Checkpoints with the names of other projects, and the options that their tensors do not show."""

import numpy as np
import torch
from block_equations import EMBEDDED, make_weights, rename_tensors

SLOWFAST = {"pairwise": EMBEDDED, "pool": (1, 2, 2)}
CAFFE2 = {"pairwise": EMBEDDED, "subsample": "before", "scale": "divided"}
MMCV = {"pairwise": EMBEDDED, "scale": "none"}


def slowfast_name(name: str) -> str:
    """SlowFast's name of a tensor of torchvision's ResNet."""
    if not name.startswith("layer"):
        return f"s1.pathway0_stem.{name.replace('1.', '.')}"
    layer, index, rest = name.split(".", 2)
    kind = rest.rsplit(".", 1)[1]
    if rest.startswith("downsample"):
        part = "branch1" if ".0." in rest else "branch1_bn"
    else:
        letter = "abc"[int(rest.split(".")[0][-1]) - 1]
        part = f"branch2.{letter}{'_bn' * rest.startswith('bn')}"
    return f"s{int(layer[-1]) + 1}.pathway0_res{index}.{part}.{kind}"


def make_checkpoint(source: str, resnet: dict, blocks: dict[str, dict]) -> dict:
    """A checkpoint of a source with a ResNet, and blocks after ``layer3.0`` and so on."""
    found = {}
    for name, tensor in resnet.items():
        if source == "slowfast" and tensor.dim() == 4:
            tensor = tensor.unsqueeze(2)
        if not name.startswith("fc."):
            found[slowfast_name(name) if source == "slowfast" else f"backbone.{name}"] = tensor
    for place, tensors in blocks.items():
        layer, index = int(place[5]), place[7:]
        name = {
            "slowfast": f"s{layer + 1}.pathway0_nonlocal{index}.",
            "mmcv": f"backbone.{place}.non_local_block.",
        }[source]
        found |= {name + key: tensor for key, tensor in tensors.items()}
    return found


def caffe2_blobs(**more) -> dict[str, np.ndarray]:
    p = make_weights(EMBEDDED, "BN", 128, 64)
    blobs = {
        f"nonlocal_conv4_5_{k}": t for k, t in rename_tensors(p, "caffe2", "", "BN", 3).items()
    }
    blobs["nonlocal_conv4_5_theta_w_momentum"] = blobs["nonlocal_conv4_5_theta_w"]
    blobs |= {"res4_5_branch2a_w": torch.ones(2, 2, 3, 1, 1), "pred_w": torch.ones(4, 2)}
    return {name: t.numpy() for name, t in blobs.items()} | more


def slowfast_block(name="s4.pathway0_nonlocal5", form=EMBEDDED, norm="BN", inner=4) -> dict:
    p = make_weights(form, norm, 8, inner)
    return {f"{name}.{key}": t for key, t in rename_tensors(p, "slowfast", "", norm, 3).items()}


def mmcv_block(name: str, pooled="none") -> dict:
    tensors = rename_tensors(make_weights(EMBEDDED, ""), "mmcv", pooled, "", 2)
    return {f"{name}{key}": tensor for key, tensor in tensors.items()}
