"""Residual networks: timm's ResNet at the size of the book."""
from __future__ import annotations

from torch import nn

from lib.torchvision_import import import_torchvision

SMALL = 64
"""Images of at most so many pixels a side get the stem that does not shrink them."""


def resnet18(image_size: int, channels: int, classes: int, *, small_stem: bool | None = None) -> nn.Module:
    """ResNet-18: a stem, eight blocks of two 3 x 3 convolutions (`layer<i>.<j>.conv<k>`), mean pool, `fc`.

    Args:
        image_size: side of the square images, in pixels.
        small_stem: a 3 x 3 convolution of stride 1 and no pooling in place of the 7 x 7 of stride 2 and its pool, which
            leave little of a small image; None: where image_size is at most 64.
    Source: He et al. 2016, "Deep residual learning"; the small stem as for CIFAR there.
    """
    resnet = import_torchvision("timm").models.resnet
    model = resnet.ResNet(resnet.BasicBlock, (2, 2, 2, 2), num_classes=classes, in_chans=channels)
    if image_size <= SMALL if small_stem is None else small_stem:
        model.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
        model.maxpool = nn.Identity()
    return model
