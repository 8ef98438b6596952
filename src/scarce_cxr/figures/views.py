"""What a recipe makes of films."""

import numpy as np
from matplotlib.figure import Figure

from scarce_cxr.figures.grid import film_grid


def views_panel(films: np.ndarray, views: list[np.ndarray], title: str) -> Figure:
    """One row a film: the film as stored, then its views.

    Args:
        films: (n, H, W) stored pixels in [0, 1].
        views: one (n, S, S) array a column, in [0, 1] (noise may lead out of it); sizes may differ.
        title: which recipe.

    Returns:
        A figure of n rows.
    """
    rows = [[film, *(view[number] for view in views)] for number, film in enumerate(films)]
    return film_grid(rows, title, column_labels=["film", *(f"view {number + 1}" for number in range(len(views)))])
