"""Generated images of one shape each: 3 shapes x 3 colours x 3 sizes = 27 classes, known down to the atom."""
from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from lib.data.images import Images
from lib.rng import checked_generator

SHAPES, COLOURS, SIZES = ("disc", "square", "triangle"), ("red", "green", "blue"), ("small", "medium", "large")
CLASSES = tuple(f"{size} {colour} {shape}" for shape in SHAPES for colour in COLOURS for size in SIZES)
"""Label 9 shape + 3 colour + size, each 0 to 2."""
RADII = (0.14, 0.21, 0.30)
"""Half the side of the square round the shape, as a share of the image's side."""
DIM, BRIGHT = 40, 220
"""Pixel value of the two weaker channels, and of the one a colour is named after, before noise."""


def shapes_colours(
    n: int, size: int = 28, noise: float = 8.0, *, rng: np.random.Generator, without: Collection[int] = ()
) -> Images:
    """n images of one shape on black, its place uniform over all at which it is wholly visible.

    Classes are as frequent as each other (up to one image) and in random order.

    Args:
        size: side of an image in pixels.
        noise: standard deviation of the noise of every channel of every pixel, in steps of 255.
        rng: source of order, places and noise.
        without: labels that do not occur, for combinations held out of training.
    """
    kept = np.array([label for label in range(len(CLASSES)) if label not in set(without)])
    if n < 1 or size < 8 or noise < 0 or not kept.size:
        raise ValueError(
            f"shapes_colours needs n >= 1, size >= 8, noise >= 0 and a class that is left; got n {n}, size {size}, "
            f"noise {noise}, {len(kept)} classes"
        )
    rng = checked_generator(rng)
    labels = rng.permutation(kept[np.arange(n) % len(kept)])
    inside = _masks(labels, size, rng)  # [n, size, size]
    shape, colour, _ = atoms(labels).T
    tone = np.where(colour[:, None] == np.arange(3), BRIGHT, DIM)  # [n, 3]
    pixels = inside[..., None] * tone[:, None, None] + rng.normal(0, noise, (n, size, size, 3))
    images = pixels.round().clip(0, 255).astype(np.uint8)  # [n, size, size, 3]
    return Images("shapes_colours", images, labels.astype(np.int64), CLASSES, 255)


def atoms(labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Shape, colour and size of each label, ints 0 to 2; [n, 3]."""
    labels = np.asarray(labels)
    if labels.size and not ((labels >= 0) & (labels < len(CLASSES))).all():
        raise ValueError(f"labels of shapes lie in 0..{len(CLASSES) - 1}, got {labels.min()} to {labels.max()}")
    return np.stack([labels // 9, labels // 3 % 3, labels % 3], axis=-1)


def _masks(labels: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """Which pixels of each image lie in its shape, bool [n, size, size]."""
    shape, _, extent = atoms(labels).T
    radius = np.array(RADII)[extent] * size
    centre = radius[:, None] + rng.random((len(labels), 2)) * (size - 2 * radius)[:, None]  # [n, 2]
    grid = np.arange(size) + 0.5
    y, x = ((grid - at[:, None]) / radius[:, None] for at in centre.T)  # [n, size], shape within -1..1
    y, x = y[:, :, None], x[:, None, :]
    square = np.maximum(abs(y), abs(x)) <= 1
    triangle = square & (abs(x) <= (y + 1) / 2)  # its tip on top
    return np.choose(shape[:, None, None], [y**2 + x**2 <= 1, square, triangle])
