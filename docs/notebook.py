# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # From the formula to a network that looks across an image
#
# The non-local block of [Wang et al., CVPR 2018](https://arxiv.org/abs/1711.07971): its formula,
# its relation to multi-head attention, an attention map, and a small network that is trained twice,
# with a block and without.
#
# This page is made from [notebook.py](notebook.py) (`make notebook`), a notebook in jupytext's
# percent format: it also opens in Jupyter and VS Code, and it runs as a script.

# %%
import copy
import math
import os

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import nn

from nl_detectron import insert_nonlocal
from nl_detectron.attention import Attention, Grid, draw, mask_positions
from nl_detectron.layers import NonLocalBlock
from nl_detectron.relay import Relay, draw_image

ITERATIONS = int(os.environ.get("NOTEBOOK_ITERATIONS", 150))
torch.manual_seed(0)

# %% [markdown]
# ## The formula
#
# A block computes for every position `i` a weighted sum over all positions `j` (Eq. 1), and adds it
# to its input (Eq. 6):
#
# ```text
# y_i = 1/C(x) · sum_j f(x_i, x_j) g(x_j)        z_i = W_z y_i + x_i
# ```
#
# With the embedded Gaussian, `f = exp(theta(x_i) · phi(x_j))` and `C(x)` is the sum of `f` over `j`
# (Eq. 4). The weights are then a softmax over `j`. As in the authors' code, the dot products are
# divided by the square root of their number of channels. `theta`, `phi`, `g` and `W_z` are 1x1
# convolutions, so all is a few matrix products:


# %%
def formula(block: NonLocalBlock, x: torch.Tensor) -> torch.Tensor:
    """z (1,C,H,W) of x (1,C,H,W), with the parameters of an embedded Gaussian block."""
    rows = x[0].flatten(1).T  # (N,C), one row per position
    theta, phi, g = (
        rows @ conv.weight.flatten(1).T + conv.bias for conv in (block.theta, block.phi, block.g)
    )
    weights = torch.softmax(theta @ phi.T / math.sqrt(theta.shape[1]), dim=1)  # (N,N)
    z = (weights @ g) @ block.w_z.weight.flatten(1).T + block.w_z.bias + rows
    return z.T.reshape(x.shape)


block = NonLocalBlock(32, subsample="none").double()
x = torch.randn(1, 32, 12, 20, dtype=torch.double)
print("a new block is the identity:", torch.equal(block(x), x))

for parameter in block.parameters():
    nn.init.normal_(parameter, std=0.2)
difference = (block(x) - formula(block, x)).abs().max().item()
changed = (block(x) - x).abs().max().item()
print(f"with random parameters it changes x by up to {changed:.1f}, ", end="")
print(f"and differs from the formula by at most {difference:.0e}")
assert difference < 1e-12

# %% [markdown]
# ## It is attention with one head and without positions
#
# `theta`, `phi` and `g` are the projections of queries, keys and values, and `W_z` is the
# projection of the output. So PyTorch's `nn.MultiheadAttention` with one head, given these
# parameters, has the same output, up to the block's `+ x`. With subsampling, the keys and values
# are those of the pooled map.


# %%
def as_attention(block: NonLocalBlock) -> nn.MultiheadAttention:
    """One-head attention with a block's parameters; the block has as many inner channels as x."""
    attention = nn.MultiheadAttention(block.in_channels, num_heads=1, batch_first=True)
    attention = attention.to(block.g.weight.dtype)
    convs = block.theta, block.phi, block.g
    with torch.no_grad():
        attention.in_proj_weight.copy_(torch.cat([conv.weight.flatten(1) for conv in convs]))
        attention.in_proj_bias.copy_(torch.cat([conv.bias for conv in convs]))
        attention.out_proj.weight.copy_(block.w_z.weight.flatten(1))
        attention.out_proj.bias.copy_(block.w_z.bias)
    return attention


def to_rows(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)  # (B,N,C)


for dtype, limit in ((torch.double, 1e-12), (torch.float, 1e-6)):
    for subsample in ("none", "before"):
        block = NonLocalBlock(32, inner_channels=32, subsample=subsample).to(dtype)
        for parameter in block.parameters():
            nn.init.normal_(parameter, std=0.15)
        x = torch.randn(2, 32, 12, 20, dtype=dtype)
        keys = to_rows(block.pool(x))
        y, weights = as_attention(block)(to_rows(x), keys, keys)
        theta, phi, _ = block.embed(x)
        largest = (to_rows(block(x)) - (y + to_rows(x))).abs().max().item()
        largest_weight = (block.pairwise.weights(theta, phi) - weights).abs().max().item()
        print(f"{dtype}, subsample={subsample!r}: ", end="")
        print(f"outputs differ by at most {largest:.0e}, weights by {largest_weight:.0e}")
        assert max(largest, largest_weight) < limit

# %% [markdown]
# Neither knows where a position is. If the positions of `x` are shuffled, those of the output are
# shuffled in the same way, and nothing else changes:

# %%
block = NonLocalBlock(32, subsample="none").double()
for parameter in block.parameters():
    nn.init.normal_(parameter, std=0.2)
x = torch.randn(1, 32, 12, 20, dtype=torch.double)
order = torch.randperm(12 * 20)


def shuffle(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2)[:, :, order].reshape(x.shape)


difference = (block(shuffle(x)) - shuffle(block(x))).abs().max().item()
print(f"shuffled before and shuffled after differ by at most {difference:.0e}")
assert difference < 1e-12

# %% [markdown]
# ## An attention map
#
# The weights of one position `i` are a map over the image. The Gaussian function, `f = exp(x_i ·
# x_j)` (Eq. 2), has no parameters, so a map needs no training. Here `x` is nothing but the mean
# colour of each cell of 8 x 8 pixels, in an image of the *relay* data set: a grey object at one
# end, and a patch in the opposite corner whose colour is the object's class.

# %%
CELL = 8  # pixels of a position's side
relay = Relay(signal=64, beside=0.5, stout=True)  # the settings of the demo


def draw_attention(
    axes, image: np.ndarray, block: NonLocalBlock, x: torch.Tensor, i: tuple
) -> None:
    """Draw the weights of the position at pixel i = (x, y) over an image."""
    theta, phi, _ = block.embed(x[None])
    grid = Grid.over((0, 0, image.shape[1], image.shape[0]), tuple(x.shape[1:]))
    row, column = grid.nearest(*i)
    weights = block.pairwise.weights(theta[:, row * x.shape[2] + column][:, None], phi)
    if block.subsample != "none":
        grid = grid.pooled((x.shape[1] // 2, x.shape[2] // 2))
    weights = weights.detach().reshape(grid.shape).numpy()
    values = np.ones_like(weights)
    draw.heat(axes, image, Attention("", block.pairwise_name, grid, i, weights, values))


image, [annotation] = draw_image(relay, "val", 0)
colours = torch.as_tensor(image).permute(2, 0, 1) / 255 - 0.5
cells = nn.functional.avg_pool2d(colours, CELL) * 4
left, top, width, height = annotation["bbox"]
points = {
    "from the object": (left + width / 2, top + height / 2),
    "from the patch": tuple(np.add(annotation["signal"][:2], relay.signal / 2)),
}
figure, axes = plt.subplots(1, 3, figsize=(12, 1.7), layout="constrained")
axes[0].imshow(image)
axes[0].set_title("a relay image")
for one, (name, point) in zip(axes[1:], points.items(), strict=True):
    draw_attention(
        one, image, NonLocalBlock(3, pairwise="gaussian", subsample="none"), cells, point
    )
    one.set_title(name)
for one in axes:
    one.axis("off")

# %% [markdown]
# Similar colours have much weight: this map finds other positions of the same thing. Nothing in it
# leads from the object to the patch. For that, `theta` and `phi` have to be trained.
#
# ## A network and its twin
#
# Four convolutions see 31 x 31 pixels around each position. The class is predicted from the mean
# features of the object, which is further from the patch than that. `insert_nonlocal` puts a block
# before the last convolution; all weights stay, and so does the output.


# %%
class Network(nn.Module):
    def __init__(self):
        super().__init__()
        sizes = ((3, 16, 2), (16, 32, 2), (32, 64, 2), (64, 64, 1))
        self.body = nn.Sequential(*(self.layer(*size) for size in sizes))
        self.classes = nn.Linear(64, 3)

    @staticmethod
    def layer(channels: int, out_channels: int, stride: int) -> nn.Module:
        conv = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())

    def forward(self, images: torch.Tensor, objects: torch.Tensor) -> torch.Tensor:
        """Scores (B,3) of images (B,3,H,W) and the masks of their objects (B,H/8,W/8)."""
        x = self.body(images)
        return self.classes(
            (x * objects[:, None]).sum(dim=(2, 3)) / objects.sum(dim=(1, 2))[:, None]
        )


def draw_images(split: str, count: int) -> list[tuple[np.ndarray, list[dict]]]:
    return [draw_image(relay, split, number) for number in range(count)]


def as_tensors(drawn: list) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (B,3,H,W), the masks of their objects (B,H/8,W/8) and their classes (B,)."""
    images = torch.stack([torch.as_tensor(image).permute(2, 0, 1) for image, _ in drawn])
    grid = Grid((0, 0), (CELL, CELL), (relay.height // CELL, relay.width // CELL))
    boxes = [(x, y, x + w, y + h) for _, [a] in drawn for x, y, w, h in [a["bbox"]]]
    objects = torch.as_tensor(np.stack([grid.covered(box) for box in boxes]), dtype=torch.float)
    classes = torch.tensor([a["category_id"] - 1 for _, [a] in drawn])
    return (images.float() - 120) / 50, objects, classes


twin = Network().eval()
network = insert_nonlocal(copy.deepcopy(twin), ["body.-2"])
held_out = draw_images("val", 100)
images, objects, classes = as_tensors(held_out)
print(network.body.nonlocal2)
print("same scores:", torch.equal(network(images, objects), twin(images, objects)))

# %% [markdown]
# Both are trained on the same batches. In half of the training images the patch lies beside the
# object, where the twin sees it too. In all held-out images it is in the opposite corner.


# %%
@torch.no_grad()
def accuracy(network: Network) -> float:
    scores = network.eval()(images, objects)
    return (scores.argmax(dim=1) == classes).float().mean().item()


def train(network: Network, iterations: int, batch: int = 16) -> list[tuple[int, float]]:
    """Train a network, and return its accuracies on held-out images, with their iterations."""
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=iterations)
    measured = [(0, accuracy(network))]
    for iteration in range(1, iterations + 1):
        chosen = torch.randint(len(training[0]), (batch,))
        some_images, some_objects, some_classes = (part[chosen] for part in training)
        network.train()
        loss = nn.functional.cross_entropy(network(some_images, some_objects), some_classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if iteration % max(iterations // 6, 1) == 0:
            measured.append((iteration, accuracy(network)))
    return measured


training = as_tensors(draw_images("train", 4 * ITERATIONS))
curves = {"with a block": train(network, ITERATIONS), "its twin": train(twin, ITERATIONS)}
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for name, curve in curves.items():
    axes.plot(*zip(*curve, strict=True), marker="o", label=name)
    print(f"{name}: {100 * curve[-1][1]:.0f} % of the held-out objects have the right class")
chance = classes.bincount().max().item() / len(classes)
print(f"one class for all objects: {100 * chance:.0f} %")
axes.axhline(chance, color="grey", linestyle=":", label="one class for all")
axes.set(xlabel="iteration", ylabel="accuracy, held-out", ylim=(0, 1.05))
axes.legend()

# %% [markdown]
# ## Where the block looks
#
# From the centre of an object of each class:

# %%
block = network.eval().body.nonlocal2
with torch.no_grad():
    before_the_block = network.body[:3]
    features = before_the_block(images)
figure, axes = plt.subplots(1, 3, figsize=(12, 1.7), layout="constrained")
for label, (one, name) in enumerate(zip(axes, relay.classes, strict=True)):
    number = classes.tolist().index(label)
    image, [annotation] = held_out[number]
    left, top, width, height = annotation["bbox"]
    draw_attention(one, image, block, features[number], (left + width / 2, top + height / 2))
    one.set_title(name)
    one.axis("off")

# %% [markdown]
# A map alone does not show that the network uses what it looks at. So the patch is left out of the
# sum, and then an equally large part of the image elsewhere:


# %%
def accuracy_without(offset: int) -> float:
    """Accuracy with the patch left out of the sum, or an area beside it of the same size."""
    right = 0
    grid = Grid((0, 0), (CELL, CELL), tuple(features.shape[2:])).pooled((6, 18))
    for number, (_, [annotation]) in enumerate(held_out):
        x, y, side, _ = annotation["signal"]
        away = offset if x < relay.width / 2 else -offset
        left_out = grid.covered((x + away, y, x + away + side, y + side)) > 0
        with torch.no_grad(), mask_positions(block, left_out):
            scores = network(images[number : number + 1], objects[number : number + 1])
        right += int(scores.argmax()) == int(classes[number])
    return right / len(images)


print(f"without the patch: {100 * accuracy_without(0):.0f} % right")
print(f"without as much beside it: {100 * accuracy_without(relay.signal + 32):.0f} % right")

# %% [markdown]
# Without its patch the class of an object is a guess, and without as much elsewhere nothing
# changes. So the block carries the colour across the image.
#
# ## In a detector
#
# The same experiment with a Mask R-CNN of Detectron2 takes some minutes (`make demo`, and `make
# demo-twin` for the model without a block); the [README](../README.md) has its figures, and
# [attention.md](attention.md) its maps. In a ResNet of torchvision or timm the paper's place is one
# line:

# %%
from torchvision.models import resnet50  # noqa: E402

model = insert_nonlocal(resnet50(weights=None), ["layer3.-2"])
print(model.layer3.nonlocal4)
