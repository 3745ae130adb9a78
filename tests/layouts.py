"""Memory layouts of images: equal values, other strides."""


def contiguous(x):
    return x.contiguous()


def channels_last(x):
    """Channels next to each other in memory, for any number of dimensions."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1)


def transposed(x):
    """The first and last dimensions of space swapped in memory: a view of a turned image."""
    return x.transpose(2, -1).contiguous().transpose(2, -1)


def sliced(x):
    """Every second element of something larger: neither dense nor in any standard format."""
    return x.repeat_interleave(2, dim=-1)[..., ::2]


def expanded(x):
    """One number for a whole image, as the gradient of a sum or a mean comes."""
    return x.flatten(2)[:, :, :1].unflatten(2, [1] * (x.dim() - 2)).expand_as(x)


LAYOUTS = (contiguous, channels_last, transposed, sliced)
