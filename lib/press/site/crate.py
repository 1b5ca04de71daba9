"""The rendered site as a research object: RO-Crate 1.1 metadata of its pages, data, parameters and records.

Source: https://w3id.org/ro/crate/1.1.
"""
from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lib.files import ROOT, read_json, write_json
from lib.press.site.source import CITED, Site

NAME = "ro-crate-metadata.json"
TYPES = {".html": "text/html", ".csv": "text/csv", ".json": "application/json", ".yaml": "application/yaml",
         ".cff": "application/yaml", "": "text/plain"}


def write_crate(site: Site, html: Path) -> None:
    """Write `NAME` into the rendered site, which lists what lies there."""
    notebooks = [site.source / f"{page}.ipynb" for page in site.notebooks()]
    finished = [read_json(path)["metadata"]["book"]["finished"] for path in notebooks]
    files = sorted(path for path in html.rglob("*") if path.is_file() and _is_told(path.relative_to(html)))
    names = [path.relative_to(html).as_posix() for path in files]
    write_json(html / NAME, metadata(names, site.profile, max(finished)))


def metadata(files: list[str], profile: str, finished: str) -> dict[str, Any]:
    """The JSON-LD: the root data set, who made it, and every file by its path; finished: when its last page was run."""
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    author = {"@id": "#authors", "@type": "Organization", "name": ", ".join(each["name"] for each in cited["authors"])}
    licence = f"https://spdx.org/licenses/{cited['license']}"
    root = {
        "@id": "./", "@type": "Dataset", "name": f"{cited['title']} (profile {profile})",
        "description": " ".join(cited["abstract"].split()), "keywords": ", ".join(cited["keywords"]),
        "license": {"@id": licence}, "author": {"@id": "#authors"}, "datePublished": finished,
        "hasPart": [{"@id": name} for name in files],
    }
    about = {"@id": NAME, "@type": "CreativeWork", "about": {"@id": "./"},
             "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"}}
    told = {"@id": licence, "@type": "CreativeWork", "name": f"{cited['license']} licence", "url": licence}
    parts = [{"@id": name, "@type": "File", "name": name, "encodingFormat": TYPES[Path(name).suffix]} for name in files]
    return {"@context": "https://w3id.org/ro/crate/1.1/context", "@graph": [about, root, author, told, *parts]}


def _is_told(path: Path) -> bool:
    """Pages and data, and not what only makes pages look and search as they do."""
    if path.parts[0] in ("_sources", "_images", "_static") and path.parts[:2] != ("_static", "claims"):
        return False
    return path.name in CITED or path.suffix in (".html", ".csv", ".json", ".yaml")
