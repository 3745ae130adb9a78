"""A block with the sizes of its images computes each from its valid positions alone."""

import pytest
import torch
from fast_part import combinations
from helpers import randomise
from reference import naive_block
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.bench_padding import kernels
from nl_detectron.layers import NORMS, PAIRWISE, SUBSAMPLES, NonLocalBlock, VideoNonLocalBlock
from nl_detectron.layers import pairwise as pairwise_module
from nl_detectron.layers import softmax_sum as softmax_module

FORMS = tuple(PAIRWISE)
# odd and even sides, of images in maps of two positions more
SIZES = {1: [(5,), (6,)], 2: [(5, 6), (4, 7)], 3: [(2, 5, 4), (3, 4, 5)]}
C = 32  # GN has 32 groups


def make_images(ndim: int, dtype: torch.dtype = torch.float64, c: int = C) -> list[torch.Tensor]:
    return [0.4 * torch.randn(1, c, *size, dtype=dtype) for size in SIZES[ndim]]


def pad(images: list[torch.Tensor], value: float, more: int = 2) -> torch.Tensor:
    """A batch of images, padded with a value to their largest sides and more."""
    space = [max(sides) + more for sides in zip(*(i.shape[2:] for i in images), strict=True)]
    batch = images[0].new_full((len(images), images[0].shape[1], *space), value)
    for padded, image in zip(batch, images, strict=True):
        inner(padded, image.shape[2:]).copy_(image[0])
    return batch


def inner(padded: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    """The part of (C,S) that is no padding."""
    return padded[(slice(None), *(slice(side) for side in size))]


# whether the sum is fused, and whether softmax sums use PyTorch's fused attention, as on a GPU
IMPLEMENTATIONS = {"dense": (False, False), "tiles": (True, False), "attention": (True, True)}


@pytest.fixture(params=IMPLEMENTATIONS)
def implementation(request, monkeypatch):
    """A function that makes a block use one implementation; tiles are small."""
    fused, attention = IMPLEMENTATIONS[request.param]
    monkeypatch.setattr(softmax_module, "TILE_PAIRS", 100)
    monkeypatch.setattr(softmax_module, "KEPT_PAIRS", 200)
    monkeypatch.setattr(softmax_module, "ALIGNMENT", {"cpu": 8})
    monkeypatch.setattr(pairwise_module, "prefers_sdpa", lambda sizes: attention)

    def choose(block: NonLocalBlock) -> NonLocalBlock:
        monkeypatch.setattr(block.pairwise, "prefers_fused", lambda sizes: fused)
        return block

    return choose


@combinations(form=FORMS, subsample=SUBSAMPLES, ndim=SIZES)
def test_each_image_has_the_papers_result(form, subsample, ndim, implementation):
    block = NonLocalBlock(8, inner_channels=5, pairwise=form, subsample=subsample, ndim=ndim)
    randomise(block).double()
    images = make_images(ndim, c=8)
    z = implementation(block)(pad(images, value=3.0), SIZES[ndim])
    for padded, image, size in zip(z, images, SIZES[ndim], strict=True):
        expected = torch.from_numpy(naive_block(block, image.numpy()))[0]
        torch.testing.assert_close(inner(padded, size), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("ndim", "dtype", "tolerance"),
    [
        (2, torch.float32, 1e-5),
        (1, torch.float64, 1e-10),
        (2, torch.float64, 1e-10),
        (3, torch.float64, 1e-10),
    ],
    ids=str,
)
@pytest.mark.parametrize("subsample", SUBSAMPLES)
@pytest.mark.parametrize("form", FORMS)
def test_outputs_and_gradients_do_not_depend_on_the_padding(
    form, subsample, ndim, dtype, tolerance, implementation
):
    block = NonLocalBlock(8, inner_channels=5, pairwise=form, subsample=subsample, ndim=ndim)
    implementation(randomise(block).to(dtype))
    images, sizes = make_images(ndim, dtype, c=8), SIZES[ndim]
    # fused concatenation sums over sorted positions, so values in the padding cost it precision
    for value, more in ((0.0, 0), (10.0 if dtype == torch.float32 else 1e4, 3)):
        alone = [image.clone().requires_grad_() for image in images]
        z_alone = [block(image) for image in alone]
        sum(z.square().sum() for z in z_alone).backward()
        expected = {n: p.grad for n, p in block.named_parameters()}
        block.zero_grad()
        x = pad(images, value, more).requires_grad_()
        z = block(x, sizes)
        sum(inner(padded, s).square().sum() for padded, s in zip(z, sizes, strict=True)).backward()
        close = {"rtol": tolerance, "atol": tolerance}
        for n, size in enumerate(sizes):
            torch.testing.assert_close(inner(z[n], size), z_alone[n][0], **close)
            torch.testing.assert_close(inner(x.grad[n], size), alone[n].grad[0], **close)
            inner(x.grad[n], size).zero_()
        assert not x.grad.any()  # none in the padding
        for name, parameter in block.named_parameters():
            # the gradient of some biases is zero, and found as rounding errors of their conv's
            layer = name.rpartition(".")[0] + "."
            of_layer = [e for n, e in expected.items() if n.startswith(layer)]
            scale = max(e.abs().max().clamp(min=1) for e in of_layer)
            torch.testing.assert_close(parameter.grad / scale, expected[name] / scale, **close)
        block.zero_grad()


@pytest.mark.parametrize("norm", ["", "GN", "BN"])
def test_the_padding_depends_on_its_image_only(norm):
    block = randomise(NonLocalBlock(C, norm=norm)).eval()
    images = make_images(2, torch.float32)
    alone, batch = (block(pad(some, 3.0), SIZES[2][: len(some)]) for some in (images[:1], images))
    torch.testing.assert_close(alone[0], batch[0, :, : alone.shape[2], : alone.shape[3]])


@combinations(ndim=SIZES, norm=[norm for norm in NORMS if norm], training=[True, False])
def test_norms_see_no_padding(ndim, norm, training):
    block = randomise(NonLocalBlock(C, inner_channels=5, norm=norm, ndim=ndim))
    block.double().train(training)
    images = make_images(ndim)
    before = {n: b.clone() for n, b in block.named_buffers()}
    z = block(pad(images, value=3.0), SIZES[ndim])
    statistics = {n: b.clone() for n, b in block.named_buffers() if "running" in n}
    block.load_state_dict(before, strict=False)
    # the same without norm, then the norm of all valid positions at once, or of each image
    norm_module, block.norm = block.norm, None
    w_z_y = [(block(image) - image).flatten(2).unsqueeze(2) for image in images]
    if isinstance(norm_module, torch.nn.modules.batchnorm._BatchNorm):
        row = norm_module(torch.cat(w_z_y, dim=3))
        expected = row.split([one.shape[3] for one in w_z_y], dim=3)
    else:
        expected = [norm_module(one) for one in w_z_y]
    for padded, image, size, one in zip(z, images, SIZES[ndim], expected, strict=True):
        torch.testing.assert_close(inner(padded, size), one.reshape(image.shape)[0] + image[0])
    for name, buffer in norm_module.named_buffers():
        if "running" in name:
            torch.testing.assert_close(statistics[f"norm.{name}"], buffer)


@pytest.mark.parametrize("form", FORMS)
def test_checkpointing_and_layout_change_nothing(form, implementation):
    torch.manual_seed(3)
    block = randomise(NonLocalBlock(C, pairwise=form, norm="BN"), std=0.1).double()
    implementation(block)
    images = make_images(2)
    results = []
    for checkpoint in (False, True):
        for layout in (torch.contiguous_format, torch.channels_last):
            block.checkpoint = checkpoint
            x = pad(images, 2.0).contiguous(memory_format=layout).requires_grad_()
            z = block(x, SIZES[2])
            assert z.is_contiguous(memory_format=layout)
            results.append((z, *torch.autograd.grad(z.square().sum(), [x, block.g.weight])))
    for found in results[1:]:
        torch.testing.assert_close(found, results[0])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("form", FORMS)
def test_autocast_stays_finite_and_near(form, dtype, implementation):
    block = implementation(NonLocalBlock(C, pairwise=form))
    torch.nn.init.normal_(block.w_z.weight, std=0.1)
    x = pad(make_images(2, torch.float32), value=0.0)
    exact = block(x, SIZES[2])
    with torch.autocast("cpu", dtype):
        z = block(x, SIZES[2])
        z.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in block.parameters())
    torch.testing.assert_close(z.float(), exact, rtol=0.02, atol=0.02)


class Operations(TorchDispatchMode):
    """Lists the operations that run."""

    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("form", FORMS)
def test_no_size_means_no_operation_more(form):
    """Without sizes a block runs the operations that it needs; sizes read no value back."""
    block = NonLocalBlock(C, pairwise=form).eval()
    x = torch.randn(2, C, 6, 6)
    with torch.no_grad(), Operations() as plain:
        expected = x + block._w_z_y(x, None).to(x.dtype)
    with torch.no_grad(), Operations() as without:
        z = block(x)
    assert torch.equal(z, expected)
    assert without.names == plain.names
    with torch.no_grad(), Operations() as padded:
        block(x, [(5, 6), (6, 4)])

    def read_back(operations: Operations) -> int:
        return sum("_local_scalar_dense" in n or "nonzero" in n for n in operations.names)

    assert read_back(padded) == read_back(plain)


@pytest.mark.parametrize("form", FORMS)
def test_kernels_of_a_gpu_do_not_grow_with_the_images(form):
    """The sum fits one tile, and there is no norm, which takes one image after another."""
    for mode, most in (("forward", 6), ("train", 12)):
        (off, on), (off_of_8, on_of_8) = (kernels(form, mode, images) for images in (2, 8))
        assert on_of_8 - off_of_8 == on - off
        assert 0 < on - off <= most


SEVERAL = "expected the sizes of 2 images, got 1"
FLAT, CLIPS = (2, C, 6, 6), (2, C, 4, 6, 6)


@pytest.mark.parametrize(
    ("block", "shape", "sizes", "message"),
    [
        (NonLocalBlock(C), FLAT, [(5, 6)], SEVERAL),
        (NonLocalBlock(C), FLAT, [(5, 6), (6,)], r"expected 2 sides of \(2, 2\) to \(6, 6\)"),
        (NonLocalBlock(C), FLAT, [(5, 7), (6, 6)], r"positions, got \(5, 7\)"),
        (NonLocalBlock(C), FLAT, [(5, 6), (1, 6)], r"positions, got \(1, 6\)"),
        (NonLocalBlock(C, subsample="none"), FLAT, [(1, 6), (0, 6)], r"\(1, 1\) to .*\(0, 6\)"),
        (NonLocalBlock(C, ndim=3), CLIPS, [(0, 6, 6), (4, 6, 6)], r"\(1, 2, 2\) to \(4, 6, 6\)"),
        (VideoNonLocalBlock(C, axes="time"), CLIPS, [(4, 6, 6)] * 2, "None unless axes"),
        (VideoNonLocalBlock(C, frames_per_group=2), CLIPS, [(4, 6, 6)] * 2, "None unless axes"),
    ],
)
def test_wrong_sizes_are_errors(block, shape, sizes, message):
    with pytest.raises(ValueError, match=message):
        block(torch.randn(shape), sizes)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
def test_a_block_with_sizes_compiles_whole(form, implementation):
    block = implementation(randomise(NonLocalBlock(8, pairwise=form), std=0.1))
    x = pad(make_images(2, torch.float32, c=8), 2.0)
    torch._dynamo.reset()
    results = []
    for run in (block, torch.compile(block, fullgraph=True, backend="aot_eager")):
        leaf = x.clone().requires_grad_()
        z = run(leaf, SIZES[2])
        results.append((z, *torch.autograd.grad(z.square().sum(), [leaf, block.g.weight])))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)
