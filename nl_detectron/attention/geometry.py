"""Locations in an image of the positions of a feature map or RoI.

Units: pixels, continuous: the first pixel reaches from 0 to 1; x to the right, y down.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Grid:
    """Cells of equal size in rows and columns; a position is the middle of its cell.

    Args:
        origin: x, y where the first cell begins.
        step: pixels from one cell to the next, along x and y; negative in a mirrored image.
        shape: rows, columns.
    """

    origin: tuple[float, float]
    step: tuple[float, float]
    shape: tuple[int, int]

    @classmethod
    def over(cls, box: Sequence[float], shape: tuple[int, int]) -> "Grid":
        """A grid whose cells divide a box (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = map(float, box)
        return cls((x0, y0), ((x1 - x0) / shape[1], (y1 - y0) / shape[0]), shape)

    def pooled(self, shape: tuple[int, int]) -> "Grid":
        """The grid after a 2x2 pool to ``shape``, which drops an odd last row and column."""
        rows, columns = (max(n // m, 1) for n, m in zip(self.shape, shape, strict=True))
        return Grid(self.origin, (self.step[0] * columns, self.step[1] * rows), shape)

    def mapped(
        self, scale: Sequence[float] | np.ndarray, shift: Sequence[float] | np.ndarray = (0, 0)
    ) -> "Grid":
        """The grid in coordinates ``scale * (x, y) + shift``."""
        x, y = (s * o + t for s, o, t in zip(scale, self.origin, shift, strict=True))
        dx, dy = (s * d for s, d in zip(scale, self.step, strict=True))
        return Grid((x, y), (dx, dy), self.shape)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1 around all cells, with x0 < x1 and y0 < y1."""
        ends = [o + d * n for o, d, n in zip(self.origin, self.step, self.shape[::-1], strict=True)]
        (x0, x1), (y0, y1) = map(sorted, zip(self.origin, ends, strict=True))
        return x0, y0, x1, y1

    def centres(self) -> np.ndarray:
        """x, y of the centre of every cell, (rows, columns, 2)."""
        rows, columns = self.shape
        x = self.origin[0] + self.step[0] * (np.arange(columns) + 0.5)
        y = self.origin[1] + self.step[1] * (np.arange(rows) + 0.5)
        return np.stack(np.meshgrid(x, y), axis=-1)

    def nearest(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of the cell nearest to a point, which may lie outside the grid."""
        found = [(at - o) // d for at, o, d in zip((x, y), self.origin, self.step, strict=True)]
        column, row = (
            int(np.clip(i, 0, n - 1)) for i, n in zip(found, self.shape[::-1], strict=True)
        )
        return row, column

    def covered(self, box: Sequence[float]) -> np.ndarray:
        """Share of each cell's area inside a box (x0, y0, x1, y1), (rows, columns), 0 to 1."""
        x0, y0, x1, y1 = box
        parts = []
        for axis, (low, high) in enumerate(((x0, x1), (y0, y1))):
            n, size = self.shape[1 - axis], abs(self.step[axis])
            middle = self.origin[axis] + self.step[axis] * (np.arange(n) + 0.5)
            inside = np.minimum(middle + size / 2, high) - np.maximum(middle - size / 2, low)
            parts.append(np.clip(inside, 0, None) / size)
        return parts[1][:, None] * parts[0]
