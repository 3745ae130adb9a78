"""The harder relay without images: ``python -m benchmarks.evidence.tokens``, in some minutes.

Positions have features like those of a backbone that distinguishes objects, signals, textures and
colours, so that only the matching is left to learn. Only the block connects positions.
"""

import json
from pathlib import Path

import torch
from detectron2.utils.env import seed_all_rng
from tabulate import tabulate
from torch import Tensor, nn

from nl_detectron.engine.hooks import versions
from nl_detectron.layers import NonLocalBlock

from .results import spread
from .runs import FORMS
from .train import save

RESULT = Path(__file__).parent / "results" / "tokens.json"
PAIRS, SEEDS = (1, 2, 4), (1, 2, 3)
CHANNELS, INNER, TEXTURES, COLOURS, EMPTY = 64, 32, 6, 3, 8
ITERATIONS, BATCH, RATE, HELD_OUT = 1500, 64, 1e-3, 2000


class Tokens:
    """Makes batches of objects, their signals and empty positions, each with a noisy feature.

    A signal's feature is a random linear mixture of its texture's and its colour's, as that of a
    convolution would be.
    """

    def __init__(self, pairs: int):
        self.pairs = pairs
        self.textures = torch.randn(TEXTURES, CHANNELS)
        self.colours = torch.randn(COLOURS, CHANNELS)
        self.object, self.signal = torch.randn(2, CHANNELS)
        self.mixture = torch.randn(2 * CHANNELS, CHANNELS) / CHANNELS**0.5

    def __call__(self, size: int) -> tuple[Tensor, Tensor]:
        """Make x (B,C,N,1), with objects first and then their signals in the same order, and the
        signals' colours (B,pairs)."""
        textures = torch.rand(size, TEXTURES).argsort()[:, : self.pairs]
        colours = torch.randint(COLOURS, (size, self.pairs))
        objects = self.textures[textures] + self.object
        both = torch.cat([self.textures[textures], self.colours[colours]], dim=2)
        signals = both @ self.mixture + self.signal
        noise = 0.1 * torch.randn(2, size, self.pairs, CHANNELS)
        empty = 0.5 * torch.randn(size, EMPTY, CHANNELS)
        x = torch.cat([objects + noise[0], signals + noise[1], empty], dim=1)
        return x.relu().transpose(1, 2).unsqueeze(3), colours


class Relay(nn.Module):
    """Two convs, the block, and a residual branch that combines x_i with the block's output."""

    def __init__(self, form: str):
        super().__init__()
        conv = [nn.Conv2d(CHANNELS, CHANNELS, 1) for _ in range(4)]
        self.before = nn.Sequential(conv[0], nn.ReLU(), conv[1], nn.ReLU())
        self.block = NonLocalBlock(CHANNELS, inner_channels=INNER, pairwise=form, subsample="none")
        self.after = nn.Sequential(conv[2], nn.ReLU(), conv[3])
        self.classes = nn.Conv2d(CHANNELS, COLOURS, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Scores of the colours (B,3,N) for x (B,C,N,1)."""
        z = self.block(self.before(x))
        return self.classes((z + self.after(z)).relu()).squeeze(3)


def main() -> None:
    torch.set_num_threads(1)
    runs = []
    for pairs in PAIRS:
        for form in FORMS:
            for seed in SEEDS:
                what = {"pairs": pairs, "form": form, "seed": seed}
                runs.append(what | perform(**what))
                print(json.dumps(runs[-1]), flush=True)
    text = json.dumps({"runs": runs, "versions": versions()}, indent=1) + "\n"
    save(RESULT, lambda path: path.write_text(text))


def table(runs: list[dict]) -> str:
    """Mean and range over seeds, in percent, by form and number of pairs."""
    heads = ["", *(f"right, {n} pairs" if n > 1 else "right, 1 pair" for n in PAIRS)]
    heads += [f"on its own, {n} pairs" for n in PAIRS if n > 1]
    rows = []
    for form in FORMS:
        cells = [
            spread([100 * r[key] for r in runs if (r["form"], r["pairs"]) == (form, n)])
            for key in ("right", "own")
            for n in PAIRS
            if key == "right" or n > 1
        ]
        rows.append([form, *cells])
    return tabulate(rows, heads, "pipe", disable_numparse=True)


def perform(pairs: int, form: str, seed: int, iterations: int = ITERATIONS) -> dict[str, float]:
    """Train a model.

    Returns:
        right: accuracy on held-out tokens; own: the share of an object's weights on signals that
        falls on its own signal, which is 1/pairs by chance.
    """
    seed_all_rng(seed)
    tokens, model = Tokens(pairs), Relay(form)
    optimizer = torch.optim.AdamW(model.parameters(), RATE)
    for _ in range(iterations):
        x, colours = tokens(BATCH)
        loss = nn.functional.cross_entropy(model(x)[..., :pairs], colours)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x, colours = tokens(HELD_OUT)
    with torch.no_grad():
        right = (model(x)[..., :pairs].argmax(dim=1) == colours).float().mean()
        theta, phi, _ = model.block.embed(model.before(x))
        weights = model.block.pairwise.weights(theta, phi).abs()
    on_signals = weights.expand(-1, x.shape[2], -1)[:, :pairs, pairs : 2 * pairs]
    own = on_signals.diagonal(dim1=1, dim2=2).sum() / on_signals.sum()
    return {"right": round(right.item(), 4), "own": round(own.item(), 4)}


if __name__ == "__main__":
    main()
