"""A small book/claims.yml and the runs that judge it, in a folder of their own."""
from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from lib import files
from lib.press import kept, ledger, pages
from lib.press.site import source
from lib.press.verdicts import Measured

PHASES, CODERS, TOPOLOSS = "superposition_phases", "sparse_coders_recovery", "topoloss_hypotheses"


def part(name: str = "loss over S = 0.8", **changes: object) -> dict:
    """An effect whose null is 1 and whose margin 0.1."""
    fields = dict(kind="effect", direction="more", estimate="loss at S = 0.85", unit="nats", nulls=["no peak: 1"],
                  margin=0.1, why="a tenth of the loss")
    return {key: value for key, value in {"name": name, **fields, **changes}.items() if value is not None}


def identity(name: str = "the sums agree") -> dict:
    return {"name": name, "kind": "identity", "estimate": "whether both sums are equal"}


def claim(id: str = "SP-1", *parts: dict, **changes: object) -> dict:
    fields = dict(study=PHASES, source="someone, page 3", origin="claim", statement=f"{id} holds for a|b < *c*.")
    return {"id": id, **fields, **changes, "parts": list(parts) or [part()]}


CHANGE = {"date": "2026-01-02", "change": "The grid was fixed."}
CLAIMS = (
    claim("SP-1", part(printed={"value": 1.5, "against": 1.0}), history=[CHANGE]),
    claim("SP-2", part(), part("loss over S = 0.9"), prints={"place": [0.82, 0.87], "height": "high"}),
    claim("SV-4", study=CODERS, origin="question"),
    claim("TL-6", identity(), study=TOPOLOSS),
)


def seeds(mean: float, n: int = 5, spread: float = 0.01) -> np.ndarray:
    """Values [n] of mean `mean`, the same ones at every call."""
    return mean + spread * np.linspace(-1, 1, n)


def measured(mean: float, n: int = 5) -> Measured:
    return Measured(seeds(mean, n), [1.0])


class BookOfClaims:
    """`root` with book/claims.yml, a chapter and profiles; `lib` looks for all of them there while the test runs."""

    def __init__(self, root: Path, patch: pytest.MonkeyPatch):
        self.root = root
        for module in (files, pages):
            patch.setattr(module, "ROOT", root)
        for module in (files, pages, source):
            patch.setattr(module, "BUILD", root / "_build")
        for name in ("BOOK_PROFILE", "BOOK_RESULTS"):
            patch.delenv(name, raising=False)
        self.write(*CLAIMS)
        files.write_text(root / f"book/studies/{PHASES}.md", "# A chapter\n\n(claim-sp-1)=\n## Here\n")
        profiles = {PHASES: ("quick", "long"), CODERS: ("quick",), TOPOLOSS: ("quick",)}
        for study, names in profiles.items():
            for name in names:
                files.write_text(root / f"params/{study}/{name}.yaml", f"profile: {name}\n")

    def write(self, *entries: object, whole: object = None) -> None:
        """book/claims.yml of these entries, or of anything else."""
        text = yaml.safe_dump(list(entries) if whole is None else whole, sort_keys=False)
        files.write_text(self.root / "book/claims.yml", text)

    def ledger(self, study: str = PHASES, profile: str = "quick") -> ledger.Ledger:
        """A ledger of a run at `profile`, which writes what is shown."""
        return ledger.Ledger(study, SimpleNamespace(profile=profile), ledger.results_path(study, profile))

    def keep(self, label: str, claim_id: str, measured: Measured, study: str = PHASES) -> ledger.Record:
        """Judge one claim in a quick run and keep the record under a label."""
        path = kept.kept_path(study, label)
        record = ledger.Ledger(study, SimpleNamespace(profile="quick"), path).judge(claim_id, measured)
        run = {"profile": "quick", "overrides": {"seed": 1}, "values": files.digest({"profile": "quick", "seed": 1})}
        files.write_json(path, json.loads(path.read_text()) | {"run": run})
        return record
