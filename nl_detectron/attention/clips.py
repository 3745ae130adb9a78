"""Attention of a video model's blocks: which positions of a clip, in space and time, they weight.

A block's weights of all pairs may have billions of values (16 frames of 28 x 28 positions: 157
million pairs), so one row is computed at a time, for one position x_i.

Axes: C channels, T frames, H rows, W columns; T', H', W' those of a block's map.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..layers import VideoNonLocalBlock
from ..modeling import VideoClassifier, find_blocks
from .capture import capture_inputs
from .geometry import Grid
from .metrics import LEAST


@dataclass(frozen=True)
class ClipAttention:
    """Attention of one position x_i of one block.

    Attributes:
        block: the module's name.
        form: the pairwise function's name.
        grid: the positions x_j of a frame, in pixels of the clip.
        frames: for each of the T' frames of positions x_j, the number of the clip's frame in its
            middle, counted from 0.
        point: the frame, and x, y in pixels of it, of x_i: the middle of its cell.
        weights: f(x_i, x_j) / C(x), shape (T', rows, columns); zero where x_i does not see x_j, as
            in other frames with the axes space.
        seen: number of x_j that x_i sees.
    """

    block: str
    form: str
    grid: Grid
    frames: tuple[int, ...]
    point: tuple[int, float, float]
    weights: np.ndarray
    seen: int

    @property
    def signed(self) -> bool:
        """Whether there are negative weights, as dot_product may have."""
        return bool((self.weights < 0).any())

    def strongest(self, count: int = 20) -> list[tuple[int, float, float, float]]:
        """Frame, x, y and weight of the x_j with the largest absolute weights, the largest first:
        the arrows of Figure 3. Weights below a thousandth of the largest are omitted."""
        sizes = np.abs(self.weights).ravel()
        order = np.argsort(-sizes, kind="stable")[:count]
        order = order[sizes[order] >= LEAST * sizes.max()]
        centres = self.grid.centres()
        found = []
        for t, row, column in zip(*np.unravel_index(order, self.weights.shape), strict=True):
            if weight := float(self.weights[t, row, column]):
                x, y = map(float, centres[row, column])
                found.append((self.frames[t], x, y, weight))
        return found


class ClipRecord:
    """A clip, the model's scores and the inputs of its blocks. Made by :func:`record_clip`.

    Attributes:
        clip: RGB uint8 (3,T,H,W).
        scores: probabilities (K,).
        blocks: names of the blocks.
        added: by block, the norm of z_i - x_i, which it adds to each position, (T',H',W').
    """

    def __init__(
        self,
        clip: Tensor,
        scores: np.ndarray,
        modules: dict[str, VideoNonLocalBlock],
        inputs: dict[str, Tensor],
        added: dict[str, np.ndarray],
    ):
        self.clip, self.scores, self.added = clip, scores, added
        self._modules, self._inputs = modules, inputs

    @property
    def blocks(self) -> list[str]:
        return list(self._modules)

    def most_changed(self, block: str) -> tuple[int, float, float]:
        """Frame, x and y of the position to which a block adds the most.

        Raises:
            ValueError: there is no such block.
        """
        self._check(block)
        frames, height, width = self.clip.shape[1:]
        added = self.added[block]
        t, row, column = map(int, np.unravel_index(added.argmax(), added.shape))
        x, y = Grid.over((0, 0, width, height), added.shape[1:]).centres()[row, column]
        return middle_frames(frames, len(added))[t], float(x), float(y)

    def attention(self, frame: int, x: float, y: float, block: str) -> ClipAttention:
        """Attention of the block's position nearest to a point of a frame.

        Args:
            frame: number of the clip's frame, counted from 0.
            x, y: pixels of the frame.
            block: one of ``blocks``.

        Raises:
            ValueError: the point is outside the clip, or there is no such block.
        """
        frames, height, width = self.clip.shape[1:]
        if not (0 <= frame < frames and 0 <= x <= width and 0 <= y <= height):
            raise ValueError(
                f"expected a frame of 0 to {frames - 1} and a point of 0 to {width} and 0 to "
                f"{height}, got frame {frame} at {x}, {y}"
            )
        self._check(block)
        module, features = self._modules[block], self._inputs[block]
        t_map, rows, columns = space = tuple(features.shape[2:])
        grid = Grid.over((0, 0, width, height), (rows, columns))
        t = frame * t_map // frames
        row, column = grid.nearest(x, y)
        with torch.no_grad():
            theta, phi, _ = module.embed(features)
            part, i = module.locate((t, row, column), space)
            weights = module.pairwise.weights(theta[part, i][None, None], phi[part][None])[0, 0]
        pooled = (rows, columns) if module.subsample == "none" else (rows // 2, columns // 2)
        seen = torch.zeros(t_map, *pooled)
        if module.axes == "time":
            seen[:, row, column] = weights.float().cpu()
        else:
            own = len(weights) // (pooled[0] * pooled[1])  # frames that x_i sees
            first = t // own * own
            seen[first : first + own] = weights.float().cpu().view(own, *pooled)
        centre_x, centre_y = map(float, grid.centres()[row, column])
        middles = middle_frames(frames, t_map)
        return ClipAttention(
            block=block,
            form=module.pairwise_name,
            grid=grid.pooled(pooled),
            frames=middles,
            point=(middles[t], centre_x, centre_y),
            weights=seen.numpy(),
            seen=len(weights),
        )

    def _check(self, block: str) -> None:
        if block not in self._modules:
            there = ", ".join(self._modules) or "none, as this model has no non-local blocks"
            raise ValueError(f"there is no block {block!r} here; there are: {there}")


def middle_frames(frames: int, parts: int) -> tuple[int, ...]:
    """The middle frame of each of the equal parts of a clip, the earlier one of two."""
    return tuple(((2 * n + 1) * frames - parts) // (2 * parts) for n in range(parts))


def record_clip(model: VideoClassifier, clip: Tensor) -> ClipRecord:
    """Run a video model on a clip and record the inputs of its non-local blocks.

    Args:
        model: it runs in evaluation mode; its mode is restored afterwards.
        clip: RGB uint8 (3,T,H,W).

    Raises:
        ValueError: the clip is none.
    """
    if clip.dim() != 4 or clip.shape[0] != 3 or clip.dtype != torch.uint8:
        raise ValueError(
            f"expected an RGB clip, uint8 (3,T,H,W), got {clip.dtype} {tuple(clip.shape)}"
        )
    modules = {n: m for n, m in find_blocks(model).items() if isinstance(m, VideoNonLocalBlock)}
    added: dict[str, np.ndarray] = {}
    handles = [
        module.register_forward_hook(
            lambda _, args, z, name=name: added.update({name: _norms(z - args[0])})
        )
        for name, module in modules.items()
    ]
    was_training = model.training
    try:
        with torch.no_grad(), capture_inputs(model.eval()) as caught:
            scores = model.scores(clip[None].to(model.device))[0]
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()
    inputs = {name: caught[name][0] for name in modules}
    return ClipRecord(clip, scores.cpu().numpy(), modules, inputs, added)


def _norms(features: Tensor) -> np.ndarray:
    """Norm over the channels at each position of (1,C,T',H',W')."""
    return features[0].float().norm(dim=0).cpu().numpy()
