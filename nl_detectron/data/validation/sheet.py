"""Pictures side by side, each with a title: the form of a contact sheet."""

from collections.abc import Mapping
from math import ceil

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

MOST = 12  # largest number of pictures
DPI = 100


def arrange(
    pictures: Mapping[str, np.ndarray], columns: int, width: float, height: float, fontsize: int
) -> Figure:
    """Draw pictures (H,W,3) in rows, each below its title.

    Args:
        pictures: by title.
        columns: largest number of pictures in a row.
        width, height: largest size of a picture in pixels.
        fontsize: of the titles.
    """
    columns = min(columns, len(pictures))
    rows = ceil(len(pictures) / columns)
    size = columns * (width + 20) / DPI, rows * (height + 40) / DPI
    figure = Figure(size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    for cell in cells:
        cell.axis("off")
    for cell, (title, picture) in zip(cells, pictures.items(), strict=False):
        cell.imshow(picture)
        cell.set_title(title, fontsize=fontsize, parse_math=False)
    return figure
