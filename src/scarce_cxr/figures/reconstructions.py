"""What a network imagines behind its mask, beside what was there."""

from collections.abc import Callable

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from scarce_cxr.figures.grid import film_grid

# Feathering of the composite, in pixels of a film of 224 with patches of 32: wide on the mask, so that no seam shows;
# narrow on the prediction. With smaller films or patches it shrinks, or it would blur away ribs that were painted.
_MASK_SIGMA, _PREDICTION_SIGMA = 3.0, 2.0
_FEATHERED_SIDE, _FEATHERED_PATCH = 224, 32
# What counts as near a masked pixel, as a share of the film's side: a bit less than the patches of the experiments.
_REACH = 1 / 8
# Of a patch that was normalised, so many standard deviations on either side of its mean are shown.
_SHOWN_DEVIATIONS = 2.5
# How far a film's grey levels are equalised where it is shown.
_EQUALIZED = 0.6


def rescale_prediction(prediction: np.ndarray, image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Gives the prediction's masked pixels the mean and standard deviation of the film's visible pixels.

    A network that paints normalised patches says nothing of a patch's brightness; this is a guess that uses nothing
    hidden.

    Args:
        prediction: (S, S) network output, any units.
        image: (S, S) the film.
        visible: (S, S) bool, True where the film was seen; some pixels of either kind.

    Returns:
        (S, S) in the film's units.
    """
    masked = prediction[~visible]
    seen = image[visible]
    return (prediction - masked.mean()) / max(masked.std(), 1e-6) * seen.std() + seen.mean()


def join_patches(prediction: np.ndarray, image: np.ndarray, visible: np.ndarray, patch: int) -> np.ndarray:
    """Gives every masked patch the brightness and contrast with which it fits its neighbours best.

    A network that paints normalised patches leaves both open. They are found together for all masked patches by least
    squares: the jump across every patch border shall be small, between two masked patches as between a masked and a
    visible one, and no patch shall stray far from the mean and deviation of the visible pixels around it. Nothing
    hidden is used.

    Args:
        prediction: (S, S) network output, any units.
        image: (S, S) the film.
        visible: (S, S) bool, True where the film was seen; whole patches of either kind.
        patch: side of a patch in pixels.

    Returns:
        (S, S) the film where it was seen, the fitted prediction elsewhere.
    """
    grid = len(image) // patch
    hidden = np.flatnonzero(~visible[::patch, ::patch].ravel())
    slots = np.full(grid * grid, -1)
    slots[hidden] = np.arange(len(hidden))
    slot = np.kron(slots.reshape(grid, grid), np.ones((patch, patch), dtype=int))
    brightness, contrast = (
        around.reshape(grid, patch, grid, patch).mean(axis=(1, 3)).ravel()[hidden] for around in _near(image, visible)
    )
    predicted = (prediction - prediction[~visible].mean()) / max(prediction[~visible].std(), 1e-6)

    # Unknowns: the patches' contrasts, then their brightnesses. One equation a pair of pixels across a border.
    rows, sums = [], []
    for turned in (lambda a: a, np.transpose):
        above, below = (
            (
                turned(slot)[first::patch][: grid - 1],
                turned(predicted)[first::patch][: grid - 1],
                turned(image)[first::patch][: grid - 1],
            )
            for first in (patch - 1, patch)
        )
        row = np.zeros((above[0].size, 2 * len(hidden)))
        known = np.zeros(above[0].size)
        for sign, (which, painted, film) in ((1, above), (-1, below)):
            which, painted, film = which.ravel(), painted.ravel(), film.ravel()
            masked = np.flatnonzero(which >= 0)
            row[masked, which[masked]] += sign * painted[masked]
            row[masked, len(hidden) + which[masked]] += sign
            known -= np.where(which < 0, sign * film, 0)
        touched = row.any(axis=1)
        rows.append(row[touched])
        sums.append(known[touched])
    # As much weight for staying near the surroundings' contrast as one border has; a tenth of it for brightness.
    weights = np.sqrt(patch * np.repeat([1.0, 0.1], len(hidden)))
    rows.append(np.diag(weights))
    sums.append(weights * np.concatenate([contrast, brightness]))
    solution = np.linalg.lstsq(np.concatenate(rows), np.concatenate(sums), rcond=None)[0]
    contrasts = np.clip(solution[: len(hidden)], contrast / 4, contrast * 4)
    fitted = np.append(contrasts, 0)[slot] * predicted + np.append(solution[len(hidden) :], 0)[slot]
    return np.where(visible, image, fitted)


def _near(image: np.ndarray, visible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the visible pixels around every pixel; far from any, of all of them. (S, S)."""
    seen = image[visible]
    reach = _REACH * len(image)
    weight = gaussian_filter(visible.astype(np.float64), reach, mode="constant") + 1e-2

    def near(values: np.ndarray, everywhere: float) -> np.ndarray:
        return (gaussian_filter(values * visible, reach, mode="constant") + 1e-2 * everywhere) / weight

    mean = near(image, seen.mean())
    return mean, np.sqrt(near((image - mean) ** 2, seen.var()))


def composite(prediction: np.ndarray, image: np.ndarray, visible: np.ndarray, patch: int) -> np.ndarray:
    """The film where it was seen, the (rescaled) prediction where not, with a feathered edge. All (S, S).

    Under the feather lies the prediction itself, not the film: no hidden pixel shines through.
    """
    scale = min(len(image) / _FEATHERED_SIDE, patch / _FEATHERED_PATCH)
    weight = gaussian_filter(visible.astype(np.float64), _MASK_SIGMA * scale)
    known = np.where(visible, image, prediction)
    return weight * known + (1 - weight) * gaussian_filter(prediction, _PREDICTION_SIGMA * scale)


def tone_curve(image: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A film's grey levels, partly equalised, so that ribs show in dark lungs beside a bright belly.

    Args:
        image: (S, S) in [0, 1]; the curve is made from all of it, as it only shades what was painted without.

    Returns:
        A rising function from pixels in the film's units to shades in [0, 1]; nan stays nan.
    """
    levels, counts = np.unique(image, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / image.size

    def shade(pixels: np.ndarray) -> np.ndarray:
        equalized = np.interp(pixels, levels, ranks)
        return np.where(np.isnan(pixels), np.nan, _EQUALIZED * equalized + (1 - _EQUALIZED) * np.clip(pixels, 0, 1))

    return shade


def seam_contrast(prediction: np.ndarray, visible: np.ndarray, patch: int) -> float:
    """How much harder the prediction jumps at patch borders than inside patches: 1 means that no seam shows.

    Args:
        prediction: (n, S, S) predictions.
        visible: (n, S, S) bool; only borders between two masked patches count.
        patch: side of a patch in pixels.

    Returns:
        Mean absolute difference of neighbouring pixels across a border over that of neighbours inside a patch.
    """
    across, inside = [], []
    for axis in (1, 2):
        jumps = np.abs(np.diff(prediction, axis=axis))
        masked = np.logical_and(*(np.delete(~visible, edge, axis=axis) for edge in (0, -1)))
        at_border = (np.arange(jumps.shape[axis]) + 1) % patch == 0
        at_border = at_border.reshape((1, -1, 1) if axis == 1 else (1, 1, -1))
        across.append(jumps[masked & at_border])
        inside.append(jumps[masked & ~at_border])
    return float(np.concatenate(across).mean() / np.concatenate(inside).mean())


def reconstruction_panel(
    images: np.ndarray,
    predictions: np.ndarray,
    visible: np.ndarray,
    patch: int,
    title: str,
    captions: list[str] | None = None,
) -> Figure:
    """One column a film: original, masked, prediction (as bright as the visible pixels), composite
    (as fits the neighbours). All four in the film's own `tone_curve`.

    Args:
        images: (n, S, S) films in [0, 1].
        predictions: (n, S, S) network outputs, any units.
        visible: (n, S, S) bool, True where the film was seen.
        patch: side of a patch in pixels.
        title: what it is, of which step, and what error on how many films.
        captions: one a film, or none.

    Returns:
        A figure of 4 x n pictures.
    """
    columns = []
    for image, prediction, seen in zip(images, predictions, visible, strict=True):
        painted = rescale_prediction(prediction, image, seen)
        masked = np.where(seen, image, np.nan)
        joined = composite(join_patches(prediction, image, seen, patch), image, seen, patch)
        shades = tone_curve(image)
        columns.append([shades(picture) for picture in (image, masked, np.where(seen, image, painted), joined)])
    rows = list(zip(*columns, strict=True))
    return film_grid(rows, title, ["original", "masked", "prediction", "composite"], captions or ())


def masked_panel(
    images: np.ndarray,
    targets: np.ndarray | None,
    visible: np.ndarray,
    title: str,
    captions: list[str] | None = None,
) -> Figure:
    """One column a film: the film, what is seen of it, and what is to be painted behind the mask.

    Args:
        images: (n, S, S) films in [0, 1].
        targets: (n, S, S) the same, each patch with zero mean, shown as mid grey, and unit variance; None if pixels are
            to be painted as they are.
        visible: (n, S, S) bool, True where the film is seen.
        title: how films are masked.
        captions: one a film, or none.

    Returns:
        A figure of 3 x n pictures.
    """
    columns = []
    for number, (image, seen) in enumerate(zip(images, visible, strict=True)):
        whole = tone_curve(image)(image)
        target = whole if targets is None else np.clip(0.5 + targets[number] / (2 * _SHOWN_DEVIATIONS), 0, 1)
        columns.append([whole, np.where(seen, whole, np.nan), np.where(seen, np.nan, target)])
    return film_grid(list(zip(*columns, strict=True)), title, ["film", "masked", "target"], captions or ())
