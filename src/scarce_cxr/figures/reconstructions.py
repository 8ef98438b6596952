"""What a network imagines behind its mask, beside what was there."""

import numpy as np
from matplotlib.figure import Figure
from scipy.ndimage import gaussian_filter

from scarce_cxr.figures.grid import film_grid

# Feathering of the composite, in pixels: wide on the mask, so that no seam shows; narrow on the prediction.
_MASK_SIGMA = 3.0
_PREDICTION_SIGMA = 2.0
# What counts as near a masked pixel, in pixels: half a patch of 32.
_REACH = 16.0


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


def rescale_locally(prediction: np.ndarray, image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """Gives every masked pixel the mean and standard deviation of the visible pixels around it.

    The same guess as `rescale_prediction`, but from nearby: a masked patch below a dark lung becomes dark. Where
    nothing visible is near, it falls back to the whole film's visible pixels.

    Args:
        prediction: (S, S) network output, any units.
        image: (S, S) the film.
        visible: (S, S) bool, True where the film was seen; some pixels of either kind.

    Returns:
        (S, S) in the film's units.
    """
    masked, seen = prediction[~visible], image[visible]

    # A little of the whole film's mean everywhere: the weight that decides where nothing visible is near.
    def near(values: np.ndarray, everywhere: float) -> np.ndarray:
        weight = gaussian_filter(visible.astype(np.float64), _REACH, mode="constant") + 1e-2
        return (gaussian_filter(values * visible, _REACH, mode="constant") + 1e-2 * everywhere) / weight

    mean = near(image, seen.mean())
    deviation = np.sqrt(near((image - mean) ** 2, seen.var()))
    return (prediction - masked.mean()) / max(masked.std(), 1e-6) * deviation + mean


def composite(prediction: np.ndarray, image: np.ndarray, visible: np.ndarray) -> np.ndarray:
    """The film where it was seen, the (rescaled) prediction where not, with a feathered edge. All (S, S)."""
    weight = gaussian_filter(visible.astype(np.float64), _MASK_SIGMA)
    return weight * image + (1 - weight) * gaussian_filter(prediction, _PREDICTION_SIGMA)


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
    title: str,
    captions: list[str] | None = None,
) -> Figure:
    """One column a film: original, masked, prediction (as bright as the visible pixels), composite (as those nearby).

    Args:
        images: (n, S, S) films in [0, 1].
        predictions: (n, S, S) network outputs, any units.
        visible: (n, S, S) bool, True where the film was seen.
        title: what it is, of which step, and what error on how many films.
        captions: one a film, or none.

    Returns:
        A figure of 4 x n pictures.
    """
    columns = []
    for image, prediction, seen in zip(images, predictions, visible, strict=True):
        painted = rescale_prediction(prediction, image, seen)
        masked = np.where(seen, image, np.nan)
        joined = composite(rescale_locally(prediction, image, seen), image, seen)
        columns.append([image, masked, np.where(seen, image, painted), joined])
    rows = list(zip(*columns, strict=True))
    return film_grid(rows, title, ["original", "masked", "prediction", "composite"], captions or ())
