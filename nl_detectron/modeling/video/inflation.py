"""Inflation: weights for images, loaded into convs over time (Sec. 4, "Inflated 3D ConvNet")."""

from collections.abc import Mapping

from torch import Tensor, nn

from .conv3d import inflate


def conv3d_weights(model: nn.Module) -> dict[str, Tensor]:
    """The kernels (O,I,t,k,k) of a model's 3-D convs by the tensor's name."""
    convs = ((n, m) for n, m in model.named_modules() if isinstance(m, nn.Conv3d))
    return {f"{name}.weight" if name else "weight": conv.weight for name, conv in convs}


def inflate_weights(tensors: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Inflate the kernels for images that a checkpoint has for a model's 3-D convs, in place.

    A kernel k x k, or one of a single frame, 1 x k x k, becomes t planes, each the kernel divided
    by t. Then a clip of one repeated image has the image's output, except near its first and last
    frames, where planes fall into the padding.

    Args:
        tensors: those of a checkpoint by name.
        model: the model that they are for.

    Returns:
        The names of the tensors that were inflated.
    """
    inflated = []
    for name, weight in conv3d_weights(model).items():
        found = tensors.get(name)
        if found is None or found.shape == weight.shape:
            continue
        flat = found.squeeze(2) if found.dim() == 5 and found.shape[2] == 1 else found
        if flat.dim() == 4 and flat.shape == weight[:, :, 0].shape:
            tensors[name] = inflate(flat, weight.shape[2])
            inflated.append(name)
    return inflated


def without_time(model: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A model's tensors, with those of 3-D convs as in a network for images: (O,I,k,k).

    Detectron2 matches a checkpoint to them by name and shape.

    Args:
        model: the model.
        tensors: those of the checkpoint; if there is a 3-D kernel, it is one for clips, and the
            model's tensors are returned as they are.
    """
    own = model.state_dict()
    if any(tensor.dim() == 5 for tensor in tensors.values()):
        return own
    return own | {name: own[name][:, :, 0] for name in conv3d_weights(model)}
