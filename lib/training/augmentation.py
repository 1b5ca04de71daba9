"""Augmentation of whole batches on the device that holds them, each image's draw a function of (seed, epoch, index).

So an image is changed in the same way whatever batch or resumed training it appears in.
"""
from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from lib.rng import stream_seed

SHIFT = 8
"""`shift` moves by up to a side's eighth: 4 pixels of 32, as usual for CIFAR."""
SCALE, RATIO, TRIES = (0.08, 1.0), (3 / 4, 4 / 3), 10
JITTER = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
LUMA = (0.299, 0.587, 0.114)


def prepare(images: Tensor, image_size: int | None = None) -> Tensor:
    """uint8 pixels as the floats models read, x / 127.5 - 1 in [-1, 1], of the middle image_size x image_size.

    images are uint8 [B, C, H, W], on any device; so is the result, float32, of the whole where image_size is None.
    """
    height, width = images.shape[-2:]
    if image_size is not None:
        if image_size > min(height, width):
            raise ValueError(f"the middle {image_size} pixels of images of {height} x {width} cannot be taken")
        top, left = (height - image_size) // 2, (width - image_size) // 2
        images = images[..., top : top + image_size, left : left + image_size]
    return images.to(torch.float32).div_(127.5).sub_(1)


def augment(images: Tensor, index: Tensor, names: tuple[str, ...], key: int, image_size: int | None = None) -> Tensor:
    """Training images as `prepare` gives them, changed at random.

    random_resized_crop: a box of 8 to 100 % of the area and aspect 3/4 to 4/3, resized bilinearly to image_size.
    shift: by up to an eighth of the side either way, black where nothing was. flip: left to right, every second image.
    colour_jitter: brightness, contrast and saturation by factors in [.6, 1.4], hue by up to a tenth of a turn; of grey
    images brightness and contrast.

    Args:
        images: uint8, [B, C, H, W].
        index: each image's number in the data set, int64 [B].
        names: of `Recipe.augment`; key: of the seed and epoch (`epoch_key`).
        image_size: side to return; None: as stored.
    """
    if "random_resized_crop" in names:
        size = images.shape[-2:] if image_size is None else (image_size, image_size)
        x = _resized(images, _boxes(uniform(key, "place", index, 2 + 2 * TRIES), *images.shape[-2:]), size)
    elif "shift" in names:
        x = prepare(_shifted(images, uniform(key, "place", index, 2)), image_size)
    else:
        x = prepare(images, image_size)
    if "flip" in names:
        x = torch.where(uniform(key, "flip", index, 1)[:, :, None, None] < 0.5, x.flip(-1), x)
    return _jittered(x, 2 * uniform(key, "colour", index, 4) - 1) if "colour_jitter" in names else x


def epoch_key(seed: int, epoch: int) -> int:
    """The stream of one epoch's augmentation."""
    return stream_seed(seed, "augmentation", epoch)


def uniform(key: int, what: str, index: Tensor, count: int) -> Tensor:
    """`count` numbers in [0, 1) for each image, functions of (key, what, index) alone: SplitMix64's mixing.

    float32 [B, count] of index int64 [B]; the same on every device.

    Source: Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators".
    """
    start = stream_seed(key, what)
    counter = index[:, None] * count + torch.arange(1, count + 1, device=index.device)  # [B, count]
    z = counter * _signed(0x9E3779B97F4A7C15) + start  # int64 arithmetic wraps round, as the method wants
    z = (z ^ _right(z, 30)) * _signed(0xBF58476D1CE4E5B9)
    z = (z ^ _right(z, 27)) * _signed(0x94D049BB133111EB)
    return _right(z ^ _right(z, 31), 40).to(torch.float32) / 2**24


def _signed(number: int) -> int:
    return number - (1 << 64) if number >> 63 else number


def _right(z: Tensor, bits: int) -> Tensor:
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _shifted(images: Tensor, u: Tensor) -> Tensor:
    b, _, height, width = images.shape
    pad = max(1, min(height, width) // SHIFT)
    padded = F.pad(images, (pad,) * 4)  # [B, C, H + 2 pad, W + 2 pad]
    top, left = (u * (2 * pad + 1)).long().unbind(1)
    rows = (top[:, None] + torch.arange(height, device=u.device))[:, None, :, None]  # [B, 1, H, 1]
    columns = (left[:, None] + torch.arange(width, device=u.device))[:, None, None, :]  # [B, 1, 1, W]
    image = torch.arange(b, device=u.device)[:, None, None, None]
    return padded[image, torch.arange(images.shape[1], device=u.device)[:, None, None], rows, columns]


def _boxes(u: Tensor, height: int, width: int) -> Tensor:
    """Boxes (x, y, w, h) as fractions of the image, [B, 4]: the first of ten draws that fits, else the whole."""
    area = SCALE[0] + (SCALE[1] - SCALE[0]) * u[:, 2 : 2 + TRIES]
    log_ratio = math.log(RATIO[0]) + (math.log(RATIO[1]) - math.log(RATIO[0])) * u[:, 2 + TRIES :]
    ratio = log_ratio.exp() * height / width  # of fractions, [B, TRIES]
    w, h = (area * ratio).sqrt(), (area / ratio).sqrt()
    fits = (w <= 1) & (h <= 1)
    first = fits.to(torch.uint8).argmax(1, keepdim=True)
    w, h = (torch.where(fits.any(1), side.gather(1, first)[:, 0], 1.0) for side in (w, h))  # [B]
    return torch.stack((u[:, 0] * (1 - w), u[:, 1] * (1 - h), w, h), dim=1)


def _resized(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    x, y, w, h = boxes.unbind(1)
    zero = torch.zeros_like(w)
    # from the output's [-1, 1] to the box's place in the input's [-1, 1]
    affine = torch.stack((w, zero, 2 * x + w - 1, zero, h, 2 * y + h - 1), dim=1).view(-1, 2, 3)
    grid = F.affine_grid(affine, [len(images), images.shape[1], *size], align_corners=False)
    return F.grid_sample(prepare(images), grid, mode="bilinear", padding_mode="border", align_corners=False)


def _jittered(x: Tensor, u: Tensor) -> Tensor:
    """Brightness, contrast, saturation, hue in this order; x in [-1, 1] [B, C, H, W], u in [-1, 1] [B, 4]."""
    x = (x + 1) / 2
    most = tuple(JITTER[name] for name in ("brightness", "contrast", "saturation"))
    factor = 1 + u[:, :3] * _constant(most, u.device)
    brightness, contrast, saturation = factor[:, :, None, None, None].unbind(1)  # [B, 1, 1, 1]
    x = (x * brightness).clamp(0, 1)
    middle = _luma(x).mean((1, 2, 3), keepdim=True)
    x = (middle + (x - middle) * contrast).clamp(0, 1)
    if x.shape[1] == 3:
        grey = _luma(x)
        x = (grey + (x - grey) * saturation).clamp(0, 1)
        x = _turned(x, 2 * math.pi * JITTER["hue"] * u[:, 3]).clamp(0, 1)
    return x * 2 - 1


@lru_cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Built once per device: a copy from the host at each batch would wait for the device."""
    return torch.tensor(values, device=device)


def _luma(x: Tensor) -> Tensor:
    if x.shape[1] != 3:
        return x
    return (x * _constant(LUMA, x.device)[:, None, None]).sum(1, keepdim=True)  # [B, 1, H, W]


def _turned(x: Tensor, angle: Tensor) -> Tensor:
    """Colours turned about the grey axis by an angle [B], their sum r + g + b kept."""
    cos, sin = angle.cos(), angle.sin() / math.sqrt(3)
    third = (1 - cos) / 3
    matrix = torch.stack((cos + third, third - sin, third + sin), dim=1)  # [B, 3], first row of a circulant matrix
    matrix = torch.stack([matrix.roll(i, 1) for i in range(3)], dim=1)  # [B, 3, 3]
    return torch.einsum("bij,bjhw->bihw", matrix, x)
