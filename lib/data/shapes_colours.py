"""Generated images of one shape each, known down to the atom: shapes x colours x sizes, 3 x 3 x 3 = 27 classes."""
from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from lib.data.images import Images
from lib.rng import checked_generator

SHAPES = ("disc", "square", "triangle", "diamond", "ring", "cross", "saltire", "hexagon")
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "magenta": (1, 0, 1),
           "cyan": (0, 1, 1), "white": (1, 1, 1), "orange": (1, 0.5, 0)}
"""Each with its share of BRIGHT in the three channels."""
COUNTS = (3, 3, 3)
"""Shapes, colours and sizes, the first so many of each, where nothing else is asked for; 2 to 8 of each."""
RADII = (0.14, 0.30)
"""Half the side of the square round the smallest and the largest shape, as a share of the image's side; sizes between
are as many times larger each."""
DIM, BRIGHT = 40, 220
"""Pixel value of a channel without and with the colour, before noise and jitter."""
_CHUNK = 512  # images drawn at once: the rest of the memory is the images themselves


def names(counts: Sequence[int] = COUNTS) -> tuple[tuple[str, ...], ...]:
    """What the levels of the three attributes are called: shapes, colours, sizes."""
    n_shapes, n_colours, n_sizes = checked_counts(counts)
    sizes = {2: ("small", "large"), 3: ("small", "medium", "large")}.get(n_sizes)
    return SHAPES[:n_shapes], tuple(COLOURS)[:n_colours], sizes or tuple(f"size {i + 1}" for i in range(n_sizes))


def classes(counts: Sequence[int] = COUNTS) -> tuple[str, ...]:
    """Names of all combinations; label (shape x n_colours + colour) x n_sizes + size, sizes fastest."""
    shapes, colours, sizes = names(counts)
    return tuple(f"{size} {colour} {shape}" for shape in shapes for colour in colours for size in sizes)


def shapes_colours(
    n: int, size: int = 28, noise: float = 8.0, *, rng: np.random.Generator, without: Collection[int] = (),
    counts: Sequence[int] = COUNTS, jitter: float = 0.05,
) -> Images:
    """n images of one anti-aliased shape on black, its place uniform over all at which it is wholly visible.

    Classes are as frequent as each other (up to one image) and in random order.

    Args:
        size: side of an image in pixels.
        noise: standard deviation of the noise of every channel of every pixel, in steps of 255.
        rng: source of order, places, jitter and noise.
        without: labels that do not occur, for combinations held out of training.
        counts: shapes, colours and sizes there are, 2 to 8 each.
        jitter: largest relative change of an image's radius and of its brightness, uniform; below .1 sizes do not mix.
    """
    named = classes(counts)
    kept = np.array([label for label in range(len(named)) if label not in set(without)])
    if n < 1 or size < 8 or noise < 0 or not 0 <= jitter < 0.1 or not kept.size:
        raise ValueError(
            f"shapes_colours needs n >= 1, size >= 8, noise >= 0, jitter from 0 to below 0.1 and a class that is left; "
            f"got n {n}, size {size}, noise {noise}, jitter {jitter}, {len(kept)} classes"
        )
    rng = checked_generator(rng)
    labels = rng.permutation(kept[np.arange(n) % len(kept)]).astype(np.int64)
    images = np.empty((n, size, size, 3), np.uint8)
    for start in range(0, n, _CHUNK):
        part = slice(start, start + _CHUNK)
        images[part] = _drawn(atoms(labels[part], counts), size, noise, counts[2], jitter, rng)
    return Images("shapes_colours", images, labels, named, 255)


def atoms(labels: Sequence[int] | np.ndarray, counts: Sequence[int] = COUNTS) -> np.ndarray:
    """Shape, colour and size of each label, ints from 0; [n, 3]."""
    labels, counts = np.asarray(labels), checked_counts(counts)
    if labels.size and not ((labels >= 0) & (labels < np.prod(counts))).all():
        raise ValueError(f"labels of shapes lie in 0..{np.prod(counts) - 1}, got {labels.min()} to {labels.max()}")
    return np.stack(np.unravel_index(labels, counts), axis=-1)


def checked_counts(counts: Sequence[int]) -> tuple[int, int, int]:
    """Numbers of shapes, colours and sizes that can be drawn, or a ValueError."""
    if len(counts) != 3 or not all(2 <= n <= 8 for n in counts):
        raise ValueError(f"counts: 2 to 8 shapes, 2 to 8 colours, 2 to 8 sizes, got {tuple(counts)}")
    return tuple(counts)


def _drawn(levels: np.ndarray, size: int, noise: float, n_sizes: int, jitter: float, rng: np.random.Generator):
    """Pixels of a chunk of images, [n, size, size, 3], from their levels [n, 3]."""
    shape, colour, extent = levels.T
    grown, shade = 1 + jitter * rng.uniform(-1, 1, (2, len(levels)))
    radius = np.geomspace(*RADII, n_sizes)[extent] * size * grown  # [n], pixels
    centre = radius[:, None] + rng.random((len(levels), 2)) * (size - 2 * radius)[:, None]  # [n, 2]
    y, x = ((np.arange(size) + 0.5 - at[:, None]) / radius[:, None] for at in centre.T)  # [n, size], shape in -1..1
    share = np.array(list(COLOURS.values()))[colour]  # [n, 3]
    tone = ((DIM + (BRIGHT - DIM) * share) * shade[:, None]).astype(np.float32)
    pixels = rng.standard_normal((len(levels), size, size, 3), dtype=np.float32) * np.float32(noise)
    for kind in np.unique(shape):
        own = np.flatnonzero(shape == kind)
        outside = _DISTANCES[SHAPES[kind]](y[own][:, :, None], x[own][:, None, :]) * radius[own, None, None]
        covered = (0.5 - outside).clip(0, 1).astype(np.float32)  # [n, size, size], share of each pixel
        pixels[own] += covered[..., None] * tone[own, None, None]
    return np.rint(pixels, out=pixels).clip(0, 255).astype(np.uint8)


def _bars(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    y, x = abs(y), abs(x)
    return np.minimum(np.maximum(x - 1 / 3, y - 1), np.maximum(y - 1 / 3, x - 1))


_DISTANCES = {
    "disc": lambda y, x: np.hypot(y, x) - 1,
    "square": lambda y, x: np.maximum(abs(y), abs(x)) - 1,
    "triangle": lambda y, x: np.maximum((2 * abs(x) - y - 1) / 5**0.5, y - 1),  # its tip on top
    "diamond": lambda y, x: (abs(y) + abs(x) - 1) / 2**0.5,
    "ring": lambda y, x: abs(np.hypot(y, x) - 0.72) - 0.28,
    "cross": _bars,
    "saltire": lambda y, x: _bars((y + x) / 2**0.5, (y - x) / 2**0.5),
    "hexagon": lambda y, x: np.maximum(abs(x) * 0.75**0.5 + abs(y) / 2, abs(y)) - 0.75**0.5,
}
"""Signed distance from a shape's edge, in radii, negative inside (y and x of -1 to 1)."""
CLASSES = classes()
