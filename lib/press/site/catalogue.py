"""The data page's generated part: a Markdown fragment with one section per data set, and its contact sheets."""
from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from lib import rng
from lib.data.decode import Arrays
from lib.data.registry import Dataset, DatasetUnavailable, Source, datasets, megabytes
from lib.data.resolve import resolve
from lib.data.sparse_features import correlated_groups, sparse_features
from lib.figures.contact_sheet import contact_sheet, feature_sheet
from lib.files import write_atomically, write_text

FRAGMENT = "data_catalogue.md"
CLIENTS = {"pip": "PyPI", "npm": "npm", "apt": "Debian", "torchvision": "torchvision"}


def write_fragments(folder: Path) -> Path:
    """Write the MyST fragment and the PNGs it shows into `folder`; nothing is downloaded.

    The fragment names its pictures from the root of the book's sources: `/<folder's name>/<picture>`.

    Returns:
        The fragment's path; a page includes it under its own first heading.
    """
    sections = [_generated_section(folder), *(_section(data, folder) for data in datasets().values())]
    return write_text(folder / FRAGMENT, "\n".join(sections))


def _section(data: Dataset, folder: Path) -> str:
    try:
        picture = _sheet(data, resolve(data, download=False), folder)
    except DatasetUnavailable:
        picture = _absence(data)
    return f"""(data-{_slug(data.name)})=
## {data.title}

{data.summary} {{cite}}`{data.citation}`

{picture}
{_facts(data)}
"""


def _sheet(data: Dataset, arrays: Arrays, folder: Path) -> str:
    part = "train_" if "train_images" in arrays else ""
    fig = contact_sheet(arrays[f"{part}images"], arrays[f"{part}labels"], data.classes)
    counted = "training images" if part else "images"
    return _figure(
        folder, data.name, fig,
        alt=f"{data.title}: rows of small images, one row for each of {', '.join(data.classes)}",
        caption=f"{data.title}: the first 16 {counted} of each class, in the stored order.",
    )


def _absence(data: Dataset) -> str:
    return f""":::{{admonition}} Not fetched yet
:class: note
`{data.command}` downloads {megabytes(data.download_bytes)} and shows the contact sheet here at the next `make book`.
:::
"""


def _facts(data: Dataset) -> str:
    rows = [("Source" if i == 0 else "or", _provenance(source)) for i, source in enumerate(data.sources)]
    rows += [
        ("Licence", f"{data.licence}; {'may' if data.redistributable else 'not to'} be passed on"),
        ("Size", f"{megabytes(data.bytes)} as arrays, {megabytes(data.download_bytes)} to download"),
    ]
    rows += [
        (f"`{key}`", f"{a.dtype} [{', '.join(map(str, a.shape))}], SHA-256 `{a.sha256[:16]}`")
        for key, a in data.arrays.items()
    ]
    return _table(rows)


def _provenance(source: Source) -> str:
    if source.provider == "torchvision":
        return f"`torchvision.datasets.{source.package}`, its own downloader; held to the same hashes"
    pinned = f", archive SHA-256 `{source.archive_sha256[:16]}`" if source.archive_sha256 else ""
    return f"{CLIENTS[source.provider]} package `{source.package}` {source.version}{pinned}"


def _generated_section(folder: Path) -> str:
    panels = {}
    for s in (0.7, 0.9, 0.97):
        panels[f"S = {s}"] = sparse_features((32, 20), 1 - s, rng.generator(0, "catalogue", str(s)))
    for label in ("correlated", "anti-correlated"):
        stream = rng.generator(0, "catalogue", label)
        panels[label] = correlated_groups((32, 20), 0.1, stream, group_size=4, kind=label.replace("-", ""))
    picture = _figure(
        folder, "sparse_features", feature_sheet({label: np.asarray(x) for label, x in panels.items()}),
        alt="Five panels of samples by features: coloured cells grow rarer from S = 0.7 to S = 0.97; in correlated "
        "groups four neighbours light up together, in anti-correlated groups at most one of four",
        caption="Sparse features: 32 samples (rows) of 20 features (columns), white where a feature is absent. "
        "The two panels on the right have S = 0.9 too, in groups of four neighbours.",
    )
    facts = _table([
        ("Source", "`lib.data.sparse_features`: `sparse_features`, `correlated_groups`"),
        ("Licence", "MIT, as this book"),
        ("Reproducible from", "an explicit generator, `lib.rng.generator(seed, label)`"),
    ])
    return f"""(data-sparse-features)=
## Sparse features

Generated, never downloaded: $x_i = \\mathrm{{Bernoulli}}(1 - S) \\cdot U(0, 1)$, from one uniform draw per entry:
$x = u/p$ where $u < p = 1 - S$. In correlated groups all features of a group fire together; in anti-correlated
groups at most one does; each single feature keeps the same law. {{cite}}`elhage2022toy`

{picture}
{facts}
"""


def _figure(folder: Path, name: str, fig: Figure, alt: str, caption: str) -> str:
    file = f"data_{name}.png"
    path = write_atomically(folder / file, lambda temporary: fig.savefig(temporary, metadata={"Software": None}))
    width = struct.unpack(">I", path.read_bytes()[16:20])[0] // 2  # drawn at twice the size it is shown at
    return f"""```{{figure}} /{folder.name}/{file}
:name: fig-data-{_slug(name)}
:alt: {alt}
:width: {width}px

{caption}
```
"""


def _table(rows: list[tuple[str, str]]) -> str:
    body = "\n".join(f"* - {key}\n  - {value}" for key, value in rows)
    return f"""```{{list-table}}
:stub-columns: 1
:widths: 1 4

{body}
```
"""


def _slug(name: str) -> str:
    return name.replace("_", "-")
