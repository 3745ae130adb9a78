"""Non-local blocks of other projects, written from their equations, with random weights."""

import itertools

import torch
from torch import Tensor
from torch.nn import functional as F

from nl_detectron.convert import convert_block
from nl_detectron.layers import NonLocalBlock

WINDOWS = {1: (2,), 2: (2, 2), 3: (1, 2, 2)}
POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
POWERS = {"divided": -0.5, "none": 0, "multiplied": 0.5}  # scores are multiplied by D to this power
EMBEDDED, DOT = "embedded_gaussian", "dot_product"


def make_weights(form: str, norm: str, channels: int = 8, inner: int = 4) -> dict[str, Tensor]:
    """Random float64 tensors of a block, with all biases, and with convs as matrices."""
    convs = {"g": (inner, channels), "out": (channels, inner)}
    if form != "gaussian":
        convs |= {"theta": (inner, channels), "phi": (inner, channels)}
    made = {f"{name}.w": torch.randn(shape) / 2 for name, shape in convs.items()}
    made |= {f"{name}.b": torch.randn(shape[0]) for name, shape in convs.items()}
    if form == "concatenation":
        made["f.w"] = torch.randn(2 * inner)
    if norm:
        made |= {"norm.scale": torch.randn(channels), "norm.shift": torch.randn(channels)}
    if norm == "BN":
        made |= {"norm.mean": torch.randn(channels), "norm.var": 0.5 + torch.rand(channels)}
    return {name: tensor.double() for name, tensor in made.items()}


def compute_block(x: Tensor, p: dict[str, Tensor], form: str, pooled: str, scale: str, norm: str):
    """z of x (B,C,S); ``pooled`` is before, after or none, ``scale`` a key of ``POWERS``."""
    space = x.dim() - 2

    def conv(name: str, x: Tensor) -> Tensor:
        bias = p.get(f"{name}.b", torch.zeros(1))
        return torch.einsum("dc,bc...->bd...", p[f"{name}.w"], x) + bias.reshape(-1, *[1] * space)

    def pool(x: Tensor) -> Tensor:
        return POOLS[space](x, WINDOWS[space])

    x_hat = pool(x) if pooled == "before" else x
    theta, phi = (x, x_hat) if form == "gaussian" else (conv("theta", x), conv("phi", x_hat))
    g = conv("g", x_hat)
    if pooled == "after":
        phi, g = pool(phi), pool(g)
    theta, phi, g = theta.flatten(2), phi.flatten(2), g.flatten(2)
    if form == "concatenation":
        inner = theta.shape[1]
        theta_part = torch.einsum("d,bdn->bn", p["f.w"][:inner], theta)
        phi_part = torch.einsum("d,bdm->bm", p["f.w"][inner:], phi)
        f = torch.relu(theta_part[:, :, None] + phi_part[:, None, :])
    else:
        f = torch.einsum("bdn,bdm->bnm", theta, phi)
    if form in (EMBEDDED, "gaussian"):
        f = torch.softmax(f * theta.shape[1] ** POWERS[scale], dim=2)
    else:
        f = f / f.shape[2]
    y = torch.einsum("bnm,bdm->bdn", f, g).unflatten(2, x.shape[2:])
    z = conv("out", y)
    if norm == "BN":
        z = F.batch_norm(z, p["norm.mean"], p["norm.var"], p["norm.scale"], p["norm.shift"])
    elif norm == "GN":
        z = F.group_norm(z, 32, p["norm.scale"], p["norm.shift"])
    elif norm:
        scale, shift = (p[k].reshape(-1, *[1] * space) for k in ("norm.scale", "norm.shift"))
        z = scale * z + shift
    return x + z


def rename_tensors(p: dict[str, Tensor], source: str, pooled: str, norm: str, ndim: int):
    """Give the tensors of :func:`make_weights` a source's names within a block, and its shapes."""
    conv, batch_norm = {
        "mmcv": (("{}.conv.weight", "{}.conv.bias"), f"conv_out.{norm.lower()}."),
        "slowfast": (("conv_{}.weight", "conv_{}.bias"), "bn."),
        "pytorchvideo": (("conv_{}.weight", "conv_{}.bias"), "norm."),
        "caffe2": (("{}_w", "{}_b"), "bn_"),
    }[source]
    norms = {"scale": "weight", "shift": "bias", "mean": "running_mean", "var": "running_var"}
    if source == "caffe2":
        norms = {"scale": "s", "shift": "b", "mean": "rm", "var": "riv"}
    result = {}
    for name, tensor in p.items():
        layer, kind = name.split(".")
        if layer == "norm":
            result[batch_norm + norms[kind]] = tensor
            continue
        if source == "mmcv":
            layer = {"out": "conv_out", "f": "concat_project"}.get(layer, layer)
            layer += ".0" * (pooled == "after" and layer in ("phi", "g"))
        if kind == "w":
            tensor = tensor.reshape(*tensor.shape, *[1] * ndim) if tensor.dim() == 2 else tensor
            tensor = tensor[None, :, None, None] if tensor.dim() == 1 else tensor
        result[conv[kind == "b"].format(layer)] = tensor
    return result


def cases():
    """(source, form, pooled, scale, norm, ndim) of everything that a source can compute."""
    for form, pooled, norm in itertools.product(
        (EMBEDDED, DOT, "gaussian", "concatenation"), ("after", "none"), ("", "BN")
    ):
        for scale in ("divided", "none") if form == EMBEDDED else ("none",):
            yield "mmcv", form, pooled, scale, norm, 2
    yield from (("mmcv", EMBEDDED, "after", "divided", "BN", ndim) for ndim in (1, 3))
    yield "mmcv", EMBEDDED, "after", "divided", "GN", 2
    for norm in ("", "BN"):
        yield "mmdetection before #1528", EMBEDDED, "none", "multiplied", norm, 2
    for form, pooled in itertools.product((EMBEDDED, DOT), ("before", "none")):
        scale = "divided" if form == EMBEDDED else "none"
        yield "slowfast", form, pooled, scale, "BN", 3
        yield from (("pytorchvideo", form, pooled, scale, norm, 3) for norm in ("BN", ""))
        for norm in ("BN", "affine", ""):
            for scale in ("divided", "none") if form == EMBEDDED else ("none",):
                yield "caffe2", form, pooled, scale, norm, 3


def source_of(project: str) -> str:
    """The ``--source`` for a project's names."""
    other = {"pytorchvideo": "slowfast", "mmdetection before #1528": "mmcv"}
    return other.get(project, project)


def convert(tensors: dict[str, Tensor], source: str, ndim: int, **given) -> NonLocalBlock:
    """Convert a source's tensors to our block, in float64 and evaluation mode."""
    state, options = convert_block(tensors, source, ndim=ndim, **given)
    ours = NonLocalBlock(**options, ndim=ndim).double().eval()
    ours.load_state_dict(state)
    return ours


def difference(case: tuple, ndim: int | None = None) -> tuple[float, float]:
    """Largest |ours - theirs|, and largest |theirs - x|, for one random x (2,C,S).

    With ``ndim`` 2 a block of videos is compared on one frame, which ours takes as an image.
    """
    project, form, pooled, scale, norm, theirs = case
    source, ndim = source_of(project), ndim or theirs
    channels = 64 if norm == "GN" else 8
    p = make_weights(form, norm, channels, inner=3)
    if source == "mmcv" and norm:
        del p["out.b"]  # as mmcv has it
    x = torch.randn(2, channels, *(3, 5, 6)[-theirs:] if ndim == theirs else (1, 5, 6)).double()
    z = compute_block(x, p, form, pooled, scale, norm)
    given = {
        "pairwise": form if form in (EMBEDDED, DOT) else None,
        "scale": scale if form == EMBEDDED else None,
        "groups": 32 if norm == "GN" else None,
    }
    if source == "slowfast":
        given["pool"] = (1, 2, 2) if pooled == "before" else (1, 1, 1)
    else:
        given["subsample"] = pooled
    names = project if project == "pytorchvideo" else source
    ours = convert(rename_tensors(p, names, pooled, norm, theirs), source, ndim, **given)
    with torch.no_grad():
        our_z = ours(x if ndim == theirs else x.squeeze(2)).reshape_as(z)
    return (our_z - z).abs().max().item(), (z - x).abs().max().item()
