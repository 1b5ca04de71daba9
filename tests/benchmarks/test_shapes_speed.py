"""Generated images of shapes, in process CPU seconds: drawing them against drawing the noise alone."""
from __future__ import annotations

import numpy as np
from measuring import cpu_seconds

from lib.data.shapes_colours import shapes_colours
from lib.rng import numpy_generator

IMAGES = 4000


def floor() -> None:
    """The noise of as many images, rounded to pixels."""
    rng = numpy_generator(0, "noise")
    for _ in range(IMAGES // 500):
        noise = rng.standard_normal((500, 28, 28, 3), dtype=np.float32)
        np.rint(noise, out=noise).clip(0, 255).astype(np.uint8)


def test_thousands_of_images_in_a_cpu_second(benchmark):
    """Rounds in turns, so that a busy machine slows both."""
    ours, theirs = [], []

    def both() -> None:
        ours.append(cpu_seconds(lambda: shapes_colours(IMAGES, rng=numpy_generator(0, "speed"))))
        theirs.append(cpu_seconds(floor))

    benchmark.pedantic(both, rounds=5)
    ratio, rate = min(ours) / min(theirs), IMAGES / min(ours)
    benchmark.extra_info |= {"images_per_cpu_second": round(rate), "times_the_noise": round(ratio, 2)}
    assert ratio < 3.5 and rate > 2000, f"{rate:.0f} images per CPU-second, {ratio:.1f} times the noise alone"
